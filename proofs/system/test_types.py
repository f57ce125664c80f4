"""Tasks with a schema: the same answer wherever params are checked."""

import json

import pytest

from conftest import GUESTS, reason, receive_all, wait_for, with_schema

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
    # A child of a task, and a schedule.
    dev.publish("verbs")
    dev.send({"task": "verbs", "params": {"verb": "enqueue", "task": "typed", "count": 1, "fail": False}})
    [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
    assert reason(letter)[0] == "bad-params" and json.loads(letter["Body"])["parent"]
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
