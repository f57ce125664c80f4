"""Tasks with a schema: the same answer wherever params are checked."""

import json
import shutil

import pytest

from conftest import GUESTS, ROOT, reason, receive_all, wait_for, with_schema

pytestmark = pytest.mark.authors

TYPED_SOURCES = ROOT / "proofs" / "languages" / "typed"
SCHEMA = {
    "params": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "count": {"type": "integer", "maximum": 9},
            "kind": {"enum": ["new", "old"]},
        },
        "required": ["name"],
    }
}
# Params, and what is wrong with them; None if they fit.
PARAMS = [
    ({"name": "Ada"}, None),
    ({"name": "Ada", "count": 9, "kind": "old", "more": []}, None),
    ({}, 'at the whole: expected the key "name", got an empty object'),
    ([1], "at the whole: expected an object, got a list of 1"),
    ({"name": ""}, 'at /name: expected at least 1 characters, got a text: ""'),
    ({"name": "Ada", "count": 1.5}, "at /count: expected a whole number, got a number: 1.5"),
    ({"name": "Ada", "count": 10}, "at /count: expected at most 9, got a number: 10"),
    ({"name": "Ada", "kind": "odd"}, 'at /kind: expected "new" or "old", got a text: "odd"'),
]


def test_every_place_gives_the_same_answer(dev):
    typed = with_schema((GUESTS / "hello.wasm").read_bytes(), SCHEMA)
    (dev.tasks / "typed.wasm").write_bytes(typed)
    wait_for(lambda: dev.listed("typed")["live"], "live task")
    assert dev.wasq("tasks", "typed", "--schema") == SCHEMA
    (dev.folder / "typed.wasm").write_bytes(typed)
    for params, wrong in PARAMS:
        text = json.dumps(params)
        ran = dev.wasq("run", "typed.wasm", "--params", text, "--json", code=None)
        enqueued = dev.wasq("enqueue", "typed", "--params", text, "--json", code=2 if wrong else 0)
        message_id = dev.send({"task": "typed", "params": params})
        if wrong is None:
            assert ran.get("kind") != "bad-params" and enqueued["message_id"]
            continue
        assert (ran["kind"], ran["message"]) == ("bad-params", f"the params do not fit: {wrong}")
        assert enqueued["error"].startswith(f"the params do not fit: {wrong} (")
        [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
        assert reason(letter) == ("bad-params", f"the params do not fit: {wrong}")
        run = dev.wasq("runs", "show", message_id, "--json")["run"]
        assert (run["state"], run["attempts"], run["kind"]) == ("dead", 0, "bad-params")
    # A task that sends a child is told at once, and a schedule is refused.
    dev.publish("verbs")
    parent = dev.send({"task": "verbs", "params": {"verb": "enqueue", "task": "typed", "count": 1, "fail": False}})
    [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
    told = 'params: they do not fit the task typed: at the whole: expected the key "name", got an object with "value", "verb"'
    kind, why = reason(letter)
    assert kind == "reject" and told in why.replace('\\"', '"') and dev.wasq("runs", "show", parent, "--json")["run"]["state"] == "dead"
    (dev.tasks / "typed.toml").write_text('[[schedule]]\nevery = "1h"\nparams = {name = "Ada", count = 10}\n')
    rejected = wait_for(lambda: dev.listed("typed")["rejected"], "refusal")
    wrong = "at /count: expected at most 9, got a number: 10"
    assert rejected["reason"] == f"typed.toml: schedule typed: its params do not fit the schema of the task: {wrong}"


# Made of a core module, and by a toolchain that makes components: the section is added to the component in any case.
@pytest.mark.parametrize("language", ["c", "rust"])
def test_a_project_carries_its_schema(author, language):
    project = author.new("typed", language)
    (project / "schema.json").write_text(json.dumps(SCHEMA, indent=2))
    author.shell("wasq build typed")
    for params, wrong in PARAMS[2:4]:
        author.shell(f"wasq run typed --json --params '{json.dumps(params)}'", code=1)
    assert "at the whole: expected an object, got a list of 1" in author.shell("wasq run typed --params '[1]' 2>&1", code=1)
    assert "Hello, Ada!" in author.shell("""wasq run typed --params '{"name": "Ada"}'""")


def test_a_schema_that_is_none_is_named(author):
    project = author.new("typed", "c")
    (project / "schema.json").write_text('{"params": {"properties": {"name": {"type": "text"}}}}')
    author.shell("wasq build typed", code=2)
    assert "schema.json: params/properties/name/type: expected null, boolean, integer" in author.said, author.said
    (project / "schema.json").write_text('{"type": "object"}')
    author.shell("wasq build typed", code=2)
    assert 'schema.json: unknown key "type"; the keys are params and result' in author.said, author.said


# One table of params for tasks with the same types in several languages. The second value is the place of the mismatch, or None if
# the params fit; a dict says it for languages with other types.
TYPED = ["rust", "python", "typescript", "go"]
TABLE = [
    ('{"user": "Ada"}', None),
    ('{"user": "", "more": 1, "other": [1e400, "\\\\ud800"]}', None),
    ("{}", ""),
    ("null", ""),
    ('["Ada"]', ""),
    ('"Ada"', ""),
    ('{"user": null}', "/user"),
    ('{"user": 7}', "/user"),
    ('{"User": "Ada"}', ""),
    ('{"user": "Ada", "count": -5}', None),
    ('{"user": "Ada", "count": "5"}', "/count"),
    ('{"user": "Ada", "count": null}', "/count"),
    ('{"user": "Ada", "count": 1.5}', "/count"),
    # JSON has one kind of number. Rust and Go read a whole number only if it is written as one, and have sizes.
    ('{"user": "Ada", "count": 1.0}', {"python": None, "typescript": None, "rust": "/count", "go": "/count"}),
    ('{"user": "Ada", "count": 3000000000}', {"python": None, "typescript": None, "rust": "/count", "go": "/count"}),
    ('{"user": "Ada", "ratio": 1}', None),
    ('{"user": "Ada", "ratio": true}', "/ratio"),
    ('{"user": "Ada", "note": null}', None),
    ('{"user": "Ada", "note": "x"}', None),
    ('{"user": "Ada", "note": []}', "/note"),
    ('{"user": "Ada", "kind": "old"}', None),
    # Go has no types for some texts.
    ('{"user": "Ada", "kind": "odd"}', {"go": None, "*": "/kind"}),
    ('{"user": "Ada", "kind": "New"}', {"go": None, "*": "/kind"}),
    ('{"user": "Ada", "home": {"street": "x", "zip": 80331}}', {"python": None, "*": "/home/zip"}),
    ('{"user": "Ada", "home": {"street": "x", "zip": null}}', None),
    ('{"user": "Ada", "home": {"zip": 1}}', "/home"),
    ('{"user": "Ada", "home": {"street": null}}', "/home/street"),
    ('{"user": "Ada", "home": "x"}', "/home"),
    ('{"user": "Ada", "tags": ["a", "b"]}', None),
    ('{"user": "Ada", "tags": ["a", 1]}', "/tags/1"),
    ('{"user": "Ada", "tags": {}}', "/tags"),
    # A list that is nil is null in Go.
    ('{"user": "Ada", "tags": null}', {"go": None, "*": "/tags"}),
    ('{"user": "Ada", "scores": {"a": 1}}', None),
    ('{"user": "Ada", "scores": {"a": "1"}}', "/scores/a"),
    ('{"user": "Ada", "scores": [1]}', "/scores"),
    ('{"user": "Ada", "pair": ["x", true]}', None),
    ('{"user": "Ada", "pair": ["x"]}', {"go": None, "*": "/pair"}),
    ('{"user": "Ada", "pair": ["x", 1]}', {"go": None, "*": "/pair/1"}),
    ('{"user": "Ada", "since": "2026-11-27T10:00:00Z"}', None),
    ('{"user": "Ada", "since": "2026-11-27T10:00:00"}', {"python": None, "rust": None, "*": "/since"}),
    ('{"user": "Ada", "since": "2026-11-31T10:00:00Z"}', {"rust": None, "*": "/since"}),
    ('{"user": "Ada", "since": "yesterday"}', {"rust": None, "*": "/since"}),
]


@pytest.mark.parametrize("language", TYPED)
def test_the_types_of_a_task_are_its_schema(author, language):
    """What the schema refuses and what the SDK refuses is the same."""
    project = author.new("typed", language)
    source = {"rust": "lib.rs"}.get(language, {"python": "task.py", "typescript": "task.ts", "go": "task.go"}.get(language))
    shutil.copy(TYPED_SOURCES / source, project / ("src/lib.rs" if language == "rust" else source))
    author.shell("wasq build typed")
    component = project / "build" / "typed.wasm"
    section = section_of(component.read_bytes())
    assert section["params"]["properties"]["user"] == {"type": "string", "description": "Who it is."}
    assert section["params"]["required"] == ["user"] and section["result"]["required"] == ["user"]
    without = author.folder / "alone.wasm"
    without.write_bytes(component.read_bytes().replace(b"\x0bwasq:schema{", b"\x0bwasq:unused{"))

    def cases(name, kind):
        text = ""
        for i, (params, wrong) in enumerate(TABLE):
            place = wrong.get(language, wrong.get("*")) if isinstance(wrong, dict) else wrong
            text += f"[[case]]\nname = '{i}: {params}'\nparams_json = '''{params}'''\n"
            if place is None:
                text += f"expect.success_json = '''{{\"user\": {json.dumps(json.loads(params)['user'])}}}'''\n"
            else:
                message = f"at {place or 'the whole'}: " if kind == "bad-params" else "params"
                text += f"expect.failure = {{ kind = '{kind}', message = '{message}' }}\n"
        (author.folder / name).write_text(text)

    cases("with.toml", "bad-params")
    author.shell("wasq test typed/build/typed.wasm --cases with.toml --json")
    # The types of TypeScript are gone at run time.
    if language != "typescript":
        cases("without.toml", "reject")
        author.shell("wasq test alone.wasm --cases without.toml --json")


SHARED = """
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
pub struct Params {
    /// The first name.
    pub name: String,
}
"""
OF_SHARED = """
#[wasq_task::task]
fn greet(params: shared::Params) -> Result<String, wasq_task::Failure> {
    Ok(params.name)
}
"""


def test_types_of_another_crate_in_rust(author):
    project = author.new("typed", "rust")
    (project / "my types/src").mkdir(parents=True)
    package = '[package]\nname = "shared"\nversion = "0.1.0"\nedition = "2024"\n'
    (project / "my types/Cargo.toml").write_text(f'{package}[dependencies]\nschemars = "1"\nserde = {{ version = "1", features = ["derive"] }}\n')
    manifest = (project / "Cargo.toml").read_text()
    (project / "Cargo.toml").write_text(manifest.replace("[dependencies]\n", '[dependencies]\nshared = { path = "my types" }\n'))
    (project / "src/lib.rs").write_text(OF_SHARED)
    # A comment alone changes the schema, and not the module.
    for comment in ("The first name.", "A name."):
        (project / "my types/src/lib.rs").write_text(SHARED.replace("The first name.", comment))
        author.shell("wasq build typed")
        section = section_of((project / "build/typed.wasm").read_bytes())
        assert section["params"]["properties"] == {"name": {"type": "string", "description": comment}}
    # Without such types, there is no second build, and no schema. The SDK's own sources have the word as well.
    (project / "my types/src/lib.rs").write_text("#[derive(serde::Deserialize)]\npub struct Params {\n    pub name: String,\n}\n")
    author.shell("wasq build typed")
    assert b"\x0bwasq:schema{" not in (project / "build/typed.wasm").read_bytes()


def section_of(wasm):
    """The content of the section of a component that `wasq build` made: it is the last one."""
    return json.loads(wasm[wasm.rindex(b"\x0bwasq:schema{") + 12 :])


SENDERS = {
    "type": "object",
    "description": "Who is greeted.",
    "properties": {
        "name": {"type": "string", "description": "A name."},
        "max-count": {"type": ["integer", "null"]},
        "kind": {"enum": ["new", "old"]},
        "home": {"$ref": "#/$defs/Tree"},
        "of": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]},
        "class": {"type": "boolean"},
    },
    "required": ["name"],
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {"value": {"type": "number"}, "left": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}},
            "required": ["value"],
        }
    },
}
RESULT = {"type": "object", "properties": {"greeting": {"type": "string"}}, "required": ["greeting"]}


@pytest.fixture
def greeter(author):
    """A `wasq dev` with a task that has many types."""
    project = author.new("greeter", "c")
    (project / "schema.json").write_text(json.dumps({"params": SENDERS, "result": RESULT}))
    author.dev("greeter")
    return author


def test_senders_in_typescript(greeter):
    greeter.shell("wasq types greeter --lang ts > greeter.ts")
    (greeter.folder / "node_modules").symlink_to(ROOT / "example-tasks" / "node_modules")
    (greeter.folder / "main.ts").write_text(
        """
        import { type Params, type Queue, type Result, enqueue, message } from "./greeter";
        const sent: string[] = [];
        const queue: Queue = { sendMessage: async ({ MessageBody }) => { sent.push(MessageBody); return { MessageId: "1" }; } };
        const params: Params = { name: "Ada", "max-count": null, kind: "old", home: { value: 1, left: { value: 2 } }, of: [1] };
        const id: string = await enqueue(queue, "https://queue", params, { id: "a", notBefore: new Date(0) });
        // @ts-expect-error
        message({});
        // @ts-expect-error
        message({ name: "Ada", kind: "odd" });
        const result: Result = JSON.parse("{}");
        export const greeting: string = result.greeting + id;
        """
    )
    options = "--strict --noEmit --target es2022 --module esnext --moduleResolution bundler --lib es2022"
    greeter.shell(f"node_modules/.bin/tsc {options} main.ts")


def test_senders_in_python(greeter):
    greeter.shell("wasq types greeter --lang python > greeter.py")
    (greeter.folder / "main.py").write_text(
        """
import datetime, os
import boto3, greeter

params: greeter.Params = {"name": "Ada", "max-count": None, "kind": "old", "home": {"value": 1.0, "left": {"value": 2.0}}}
before = datetime.datetime.now(datetime.UTC)
print(greeter.enqueue(boto3.client("sqs"), os.environ["QUEUE_URL"], params, id="a", not_before=before))
"""
    )
    python = ROOT / "target" / "python" / "bin" / "python"
    assert greeter.shell(f'eval "$(wasq env)" && {python} main.py') == "a\n"
    assert json.loads(greeter.shell("wasq wait a")) == {"greeting": "Hello, Ada!"}


def test_senders_in_rust(greeter):
    crate = greeter.folder / "sender"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "sender"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n'
        'serde = { version = "1", features = ["derive"] }\nserde_json = "1"\n[workspace]\n'
    )
    greeter.shell("wasq types greeter --lang rust > sender/src/greeter.rs")
    (crate / "src" / "main.rs").write_text(
        """
        #[allow(dead_code)]
        mod greeter;

        fn main() {
            let home = greeter::Tree { value: 1.0, left: Some(Box::new(greeter::Tree { value: 2.0, left: None })) };
            let params = greeter::Params {
                name: "Ada".to_owned(),
                max_count: None,
                kind: Some(greeter::ParamsKind::Old),
                home: Some(Box::new(home)),
                of: Some(greeter::ParamsOf::Text("x".to_owned())),
                class: None,
            };
            println!("{}", greeter::message(&params, Some("a")).unwrap());
        }
        """
    )
    shutil.copy(ROOT / "Cargo.lock", crate / "Cargo.lock")
    message = json.loads(greeter.shell("cd sender && cargo run --quiet --offline"))
    home = {"value": 1.0, "left": {"value": 2.0}}
    assert message == {"task": "greeter", "id": "a", "params": {"name": "Ada", "kind": "old", "home": home, "of": "x"}}


def test_types_of_what_has_none(greeter):
    greeter.shell("wasq types nobody --lang python", code=2)
    assert "no task named nobody is live" in greeter.said
    greeter.shell("wasq types greeter --lang cobol", code=2)
    assert "one of typescript, python, rust" in greeter.said


def test_a_version_that_takes_less_is_refused_if_the_settings_say_so(dev):
    hello = (GUESTS / "hello.wasm").read_bytes()
    settings = 'compatible = "backward"\n'

    def schema(**properties):
        return {"params": {"type": "object", "properties": {"name": {"type": "string"}} | properties, "required": ["name"]}}

    def publish(schema, settings=settings):
        """Uploads a version, and returns the reason if it is refused."""
        before = dev.listed("typed")
        (dev.tasks / "typed.toml").write_text(settings)
        # Copied as a whole, as `wasq push` does it.
        (dev.folder / "new.wasm").write_bytes(with_schema(hello, schema))
        shutil.move(dev.folder / "new.wasm", dev.tasks / "typed.wasm")
        listed = wait_for(lambda: (now := dev.listed("typed")) != before and now, "another version, or a refusal")
        return listed["rejected"] and listed["rejected"]["reason"]

    assert publish(schema(limit={"type": "integer"})) is None
    assert publish(schema(limit={"type": "number"}, since={"type": "string"})) is None
    assert publish(schema(limit={"type": "integer"}, other={})) == (
        "typed.wasm: it refuses params that the live version 2 takes, and its settings say "
        'compatible = "backward": at /limit: it refuses a number'
    )
    assert dev.listed("typed")["live"]["version"] == 2
    # An earlier version may come back.
    assert publish(schema(limit={"type": "integer"})) is None
    assert publish(schema(limit={"type": "boolean"})) is not None
    assert publish(schema(limit={"type": "boolean"}), settings="max_attempts = 3\n") is None


@pytest.mark.parametrize("language", ["rust", "python", "typescript"])
def test_a_project_from_a_schema(author, language):
    (author.folder / "greet.json").write_text(json.dumps({"params": SENDERS, "result": RESULT}))
    author.shell(f"wasq new greet --lang {language} --from-schema greet.json")
    project = author.folder / "greet"
    if (project / "package.json").exists():
        (project / "node_modules").symlink_to(ROOT / "example-tasks" / "node_modules")
    shown = json.loads(author.shell("wasq test greet --json"))
    assert (shown["count"], shown["failed"]) == (1, 0)
    assert "at /kind: expected" in author.shell("""wasq run greet --params '{"name": "Ada", "kind": "odd"}' 2>&1""", code=1)


def test_no_project_from_what_is_no_schema(author):
    (author.folder / "bad.json").write_text('{"type": "text"}')
    author.shell("wasq new greet --lang python --from-schema bad.json", code=2)
    assert "the schema: params/type: expected null, boolean" in author.said and not (author.folder / "greet").exists()
    (author.folder / "good.json").write_text('{"type": "object"}')
    author.shell("wasq new greet --lang zig --from-schema good.json", code=2)
    assert "there are no types for params in Zig" in author.said
