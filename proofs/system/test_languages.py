"""Tasks in every language: equal outcomes for equal inputs, and clear messages if something is missing."""

import json
import re
import shutil
import stat
import subprocess

import pytest

from conftest import BINARIES, GUESTS, LANGUAGES, ROOT, wait_for

pytestmark = pytest.mark.authors

EXAMPLES = ROOT / "example-tasks"
CASES = EXAMPLES / "github_repositories.tests.toml"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_example_does_the_same_in_every_language(author, language):
    project = EXAMPLES / language / "github_repositories"
    shown = json.loads(author.shell(f"wasq test {project} --cases {CASES} --json"))
    assert shown["count"] >= 25 and shown["failed"] == 0
    kinds = {case["outcome"].get("kind", "success") for case in shown["cases"]}
    assert kinds == {"success", "retry", "reject", "bad-params", "trap", "out-of-time", "out-of-memory"}


STEPS = ROOT / "proofs" / "languages" / "steps"


@pytest.mark.parametrize("language", LANGUAGES)
def test_steps_are_the_same_in_every_language(author, language):
    project = author.new("steps", language)
    sources = {"rust": "src/lib.rs", "python": "task.py", "javascript": "task.js", "typescript": "task.ts", "go": "task.go"}
    source = project / sources.get(language, f"task.{language}")
    shutil.copy(STEPS / source.name, source)
    for name in ("steps.toml", "tests.toml"):
        shutil.copy(STEPS / name, project / name)
    if language == "rust":
        author.shell("cd steps && cargo add --quiet serde_json")
    shown = json.loads(author.shell("wasq test steps --json"))
    assert shown["count"] >= 8 and shown["failed"] == 0


# Steps that no later attempt could take up: the step, and the reason.
MISUSED = {
    "python": [
        ('step("a", lambda: object())', 'step "a": its value is no JSON'),
        ('step("a", lambda: float("nan"))', 'step "a": its value is no JSON'),
        ('step("a", lambda: later())', 'step "a": pass an async function'),
        ('step("a", lambda: step("b", lambda: 1))', 'step "a" has not ended'),
    ],
    "javascript": [
        ('step("a", () => 1n)', 'step "a": its value is no JSON'),
        ('step("a", () => later())', 'step "a": pass an async function'),
        ('await step("a", async () => 1n)', 'step "a": its value is no JSON'),
        ('step("a", () => step("b", () => 1))', 'step "a" has not ended'),
    ],
}


@pytest.mark.parametrize("language", MISUSED)
def test_a_step_that_cannot_be_taken_up_rejects_its_message(author, language):
    project = author.new("misuse", language)
    steps = [step for step, _ in MISUSED[language]]
    if language == "python":
        rows = "".join(f"    if row == {i}:\n        {step}\n" for i, step in enumerate(steps))
        source = f"from wasq_task import step, task\n\n\nasync def later():\n    return 1\n\n\n@task\ndef misuse(row: int):\n{rows}    return 0\n"
        (project / "task.py").write_text(source)
    else:
        rows = "".join(f"  if (row === {i}) {step};\n" for i, step in enumerate(steps))
        source = f'import {{ step }} from "wasq-task";\n\nconst later = async () => 1;\n\nexport default async function misuse({{ row }}) {{\n{rows}  return 0;\n}}\n'
        (project / "task.js").write_text(source)
    case = "[[case]]\nname = {name}\nparams = {{ row = {i} }}\nexpect.failure = {{ kind = \"reject\", message = {why} }}\nexpect.steps = {{}}\n"
    cases = [case.format(name=json.dumps(step), i=i, why=json.dumps(why)) for i, (step, why) in enumerate(MISUSED[language])]
    (project / "tests.toml").write_text("\n".join(cases))
    shown = json.loads(author.shell("wasq test misuse --json"))
    assert (shown["count"], shown["failed"]) == (4, 0)


# Crashes in the task that `wasq new` makes: the text to replace, its replacement, the kind of the failure,
# and the texts that the reason must contain.
CRASHES = {
    "rust": ("log::info!", 'panic!("boom"); log::info!', "trap", ["boom"]),
    "python": ("    logging.info", '    raise ValueError("boom")\n    logging.info', "retry", ["boom", "task.py", "in greet", "ValueError"]),
    "javascript": ("log.info", 'throw new TypeError("boom"); log.info', "retry", ["TypeError: boom", "greet"]),
    "go": ("slog.Info", 'panic("boom"); slog.Info', "retry", ["panic: boom", "task.go", "main.greet"]),
    "c": ("wasq_log", 'wasq_abort("boom"); wasq_log', "trap", ["boom"]),
    "cpp": ("wasq::log", 'wasq::abort("boom"); wasq::log', "trap", ["boom"]),
    "zig": ("wasq.log", 'if (params.name.len > 0) @panic("boom"); wasq.log', "trap", ["boom"]),
}


@pytest.mark.parametrize("language", CRASHES)
def test_what_crashes_says_why(author, language):
    line, crash, kind, told = CRASHES[language]
    project = author.new("crash", language)
    (source,) = [path for path in (*project.glob("task.*"), *project.glob("src/lib.rs"))]
    source.write_text(source.read_text().replace(line, crash, 1))
    shown = json.loads(author.shell("wasq test crash --json", code=1))
    outcome = shown["cases"][0]["outcome"]
    assert outcome["kind"] == kind
    for text in told:
        assert text in outcome["message"], outcome["message"]


# Reasons that are not valid text, and arguments that the host does not take: the text to replace, its
# replacement, and the kind and the reason of the first run's outcome.
ODDITIES = {
    "python": ("    logging.info", '    raise Reject("bad \\udcff")\n    logging.info', "reject", "bad "),
    "python-headers": (
        "    logging.info",
        '    from wasq_task import http\n    http.get("https://x.test/", headers={"x": 1})\n    logging.info',
        "retry",
        "x: expected a str, found 1",
    ),
    "javascript": ("log.info", 'throw new Reject("bad \\ud800"); log.info', "reject", "bad "),
    "go": ("slog.Info", 'return Output{}, task.Reject("bad \\xff"); slog.Info', "reject", "bad \ufffd"),
    "c": ("wasq_log", 'return wasq_reject("bad \\xff"); wasq_log', "reject", "bad \ufffd"),
    "cpp": ("wasq::log", 'return wasq::reject("bad \\xff"); wasq::log', "reject", "bad \ufffd"),
    "zig": ("wasq.log", 'if (params.name.len > 0) return wasq.reject("bad \\xff", .{}); wasq.log', "reject", "bad \ufffd"),
}


@pytest.mark.parametrize("case", ODDITIES)
def test_what_is_no_text_changes_no_outcome(author, case):
    line, odd, kind, told = ODDITIES[case]
    project = author.new("odd", case.split("-")[0])
    (source,) = project.glob("task.*")
    source.write_text(source.read_text().replace(line, odd, 1))
    shown = json.loads(author.shell("wasq test odd --json", code=1))
    outcome = shown["cases"][0]["outcome"]
    assert outcome["kind"] == kind and told in outcome["message"], outcome


def test_what_the_guide_of_javascript_promises(author):
    project = author.new("web", "javascript")
    (project / "task.js").write_text(
        """
        export default async function ({ name }) {
          console.log("greeting", name);
          const answer = await (await fetch("https://x.test/a")).json();
          const denied = await fetch("https://elsewhere.test/").then(() => false, () => true);
          const random = crypto.getRandomValues(new Uint8Array(4)).length;
          return { n: answer.n, denied, random, host: new URL("https://u.test/x").host };
        }
        """
    )
    (project / "web.toml").write_text('allow_hosts = ["https://x.test"]')
    (project / "tests.toml").write_text(
        """
        [[case]]
        name = "what browsers have"
        params = { name = "Ada" }
        answers = [{ url = "https://x.test/a", json = { n = 3 } }]
        expect.success = { n = 3, denied = true, random = 4, host = "u.test" }
        expect.log = ["greeting Ada"]
        """
    )
    author.shell("wasq test web")


def test_the_tasks_folder_may_lie_in_the_project(author):
    project = author.new("hello", "c")
    author.folder = project
    author.dev(".", "hello")
    shutil.copy(GUESTS / "verbs.wasm", project / "tasks" / "verbs.wasm")
    wait_for(lambda: author.live("verbs"), "the other task")
    assert author.log().count("building") == 1, "a file in the tasks folder is not a source"


def test_dev_builds_on_save_and_keeps_what_was_live(author):
    project = author.new("hello", "c")
    author.dev("hello")
    first = wait_for(lambda: author.live("hello"), "a live task")
    source = project / "task.c"
    whole = source.read_text()

    source.write_text(whole.replace("return", "retrun", 1))
    wait_for(lambda: "not built" in author.log(), "a complaint")
    # The compiler's message names the file and the line of the author's source.
    assert "task.c:7:" in author.log()
    assert author.live("hello")["digest"] == first["digest"]

    source.write_text(whole.replace("Hello, %s!", "Good morning, %s!"))
    wait_for(lambda: author.live("hello")["digest"] != first["digest"], "fixed task")
    greeting = author.shell("""wasq enqueue hello --params '{"name": "Ada"}' --wait""")
    assert json.loads(greeting) == {"greeting": "Good morning, Ada!"}

    (project / "hello.toml").write_text("max_attempts = 2\n")
    wait_for(lambda: author.live("hello")["settings"]["max_attempts"] == 2, "the new settings")
    (project / "hello.toml").write_text("max_atempts = 2\n")
    wait_for(lambda: "max_atempts" in author.log(), "a complaint about the settings")


# ---- Tools and files that are missing, too old or broken ----

TOOLS = {
    "rust": ("cargo", "https://rustup.rs"),
    "python": ("componentize-py", "pip install -r requirements.txt"),
    "javascript": ("node", "https://nodejs.org"),
    "go": ("go", "https://go.dev/dl"),
    "c": ("zig", "pip install ziglang==0.17.1"),
}


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("language", TOOLS)
def test_a_toolchain_that_is_missing_too_old_or_broken(author, tmp_path, language):
    tool, advice = TOOLS[language]
    author.new("hello", language)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "wasq").symlink_to(BINARIES / "wasq")
    author.environment["PATH"] = str(programs)

    author.shell("/bin/true && wasq build hello", code=2)
    assert f"{tool} is needed, and is not there" in author.said and advice in author.said
    program(programs, tool, "echo version 0.1.2")
    author.shell("wasq build hello", code=2)
    assert f"{tool} 0.1.2" in author.said and "is too old" in author.said and advice in author.said
    program(programs, tool, "echo cannot load libwhatever.so >&2; exit 127")
    author.shell("wasq build hello", code=2)
    assert "does not work" in author.said and "cannot load libwhatever.so" in author.said and advice in author.said
    program(programs, tool, "echo who knows")
    author.shell("wasq build hello", code=2)
    assert "names no version" in author.said


def test_packages_of_npm_that_are_missing(author):
    project = author.new("hello", "javascript")
    (project / "node_modules").unlink()
    author.shell("wasq build hello", code=2)
    assert "@bytecodealliance/componentize-js is needed" in author.said and "npm install" in author.said


def test_the_target_of_rust_that_is_missing(author, tmp_path):
    author.new("hello", "rust")
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs, "cargo", "echo cargo 1.95.0")
    program(programs, "rustc", "case $1 in --version) echo rustc 1.95.0;; *) echo /nowhere;; esac")
    author.environment["PATH"] = f"{programs}:{BINARIES}:/bin:/usr/bin"
    author.shell("wasq build hello", code=2)
    assert "rustup target add wasm32-wasip2" in author.said


def test_what_is_no_project(author, tmp_path):
    (tmp_path / "empty").mkdir()
    author.shell("wasq build empty", code=2)
    assert "no project of a language that wasq knows" in author.said and "task.py (Python)" in author.said
    author.shell("wasq build nowhere", code=2)
    assert "nowhere" in author.said
    author.new("both", "c")
    (tmp_path / "both" / "task.py").write_text("")
    author.shell("wasq build both", code=2)
    assert "task.py and task.c stand side by side" in author.said
    author.shell("wasq new both --lang zig", code=2)
    assert "both is there already" in author.said
    author.shell("wasq new 'a b' --lang zig", code=2)
    assert "the folder's name is the task's" in author.said
    author.shell("wasq new tests --lang zig", code=2)
    assert "cannot be called tests" in author.said
    (tmp_path / "deeper" / "both").mkdir(parents=True)
    (tmp_path / "both" / "task.py").unlink()
    author.shell("cd deeper/both && wasq new . --lang c")
    author.shell("wasq dev both deeper/both --listen 127.0.0.1:0", code=2)
    assert "are both the task both" in author.said
    author.shell("wasq new other --lang cobol", code=2)
    assert "one of rust, python" in author.said and not (tmp_path / "other").exists()


def test_a_mistake_in_the_settings_or_the_tests(author, tmp_path):
    project = author.new("hello", "c")
    (project / "hello.toml").write_text("timeout = 30\n")
    author.shell("wasq build hello", code=2)
    assert "hello.toml" in author.said and "timeout" in author.said
    (project / "hello.toml").unlink()
    for tests, told in [
        ("[[case]]\nname = 'a'\nexpect.succes = 1\n", "unknown field `succes`"),
        ("[[case]]\nname = 'a'\n[case.expect]\n", 'the case "a": expect one of success, success_json, success_includes and failure'),
        ("[[case]]\nname = 'a'\nparams_json = '{'\nexpect.success = 1\n", "params_json is not JSON"),
        ("[[case]]\nname = 'a'\nexpect.success = 1\nanswers = [{ url = 'x', hex = 'f' }]\n", "expected pairs of digits"),
        ("[[case]]\nname = 'a'\nparams = { at = 2026-01-01 }\nexpect.success = 1\n", "there is a date in it"),
        ("[[case]]\nname = 'a'\nexpect.success = 1\nanswers = [{ url = 'x.test' }]\n", "it does not begin with https:// or http://"),
        ("", "has no [[case]]"),
    ]:
        (project / "tests.toml").write_text(tests)
        author.shell("wasq test hello", code=2)
        assert told in author.said and "tests.toml" in author.said
    (project / "tests.toml").unlink()
    author.shell("wasq test hello", code=2)
    assert "no tests: " in author.said
    (project / "tests.toml").write_text("[[case]]\nname = 'a'\nparams = { name = 'Ada' }\nexpect.success = 1\n")
    printed = author.shell("wasq test hello", code=1)
    assert 'FAIL  a\n      expected the result 1, found {"greeting": "Hello, Ada!"}\n' in printed
    assert "log: greeting Ada" in printed


def test_what_a_component_is(author, tmp_path):
    shutil.copy(GUESTS / "verbs.wasm", tmp_path)
    shown = json.loads(author.shell("wasq check verbs.wasm --json"))
    imports = {entry["name"].split("@")[0]: entry for entry in shown["imports"]}
    assert shown["fits"] and not shown["problems"]
    assert any(made.startswith("wit-component ") for made in shown["made_with"])
    assert imports["wasi:sockets/tcp"]["denied"] and imports["wasi:filesystem/types"]["denied"]
    assert "allow_hosts" in imports["wasi:http/outgoing-handler"]["limits"]
    assert shown["bytes"] == (tmp_path / "verbs.wasm").stat().st_size and shown["compiled_bytes"] > shown["bytes"]

    author.new("hello", "c")
    author.shell("wasq build hello")
    assert "made with  C, zig 0.17.1, wasq 0.1.0\n" in author.shell("wasq check hello/build/hello.wasm")

    (tmp_path / "verbs.toml").write_text('memory = "1MiB"\n')
    printed = author.shell("wasq check verbs.wasm", code=1)
    assert 'more than its settings allow (memory = "1MiB")' in printed
    (tmp_path / "torn.wasm").write_bytes((tmp_path / "verbs.wasm").read_bytes()[:5000])
    assert "was it uploaded whole?" in author.shell("wasq check torn.wasm", code=1)
    (tmp_path / "core.wasm").write_bytes(b"\0asm\1\0\0\0")
    assert "a core WebAssembly module, not a component" in author.shell("wasq check core.wasm", code=1)


def test_secrets_and_headers_in_tests(author):
    """A secret has a value of its own in a test, and a case can say where it must be sent."""
    (author.folder / "verbs.toml").write_text(
        'allow_hosts = ["http://api.example.com"]\n[secrets]\nTOKEN = "ssm:/wasq/token"\n'
    )
    shutil.copy(GUESTS / "verbs.wasm", author.folder)
    case = """
[[case]]
name = "the token goes along"
params = { verb = "authorize", authority = "api.example.com", authorization = "Bearer {TOKEN}" }
expect.success = { status = 200, body = "well" }
[[case.answers]]
url = "http://api.example.com/authorization"
request_headers = { authorization = "Bearer %s" }
body = "well"
"""
    (author.folder / "tests.toml").write_text(case % "value-of-TOKEN")
    author.shell("wasq test verbs.wasm")
    (author.folder / "tests.toml").write_text(case % "another")
    printed = author.shell("wasq test verbs.wasm", code=1)
    assert "expected the header authorization of http://api.example.com/authorization to be Bearer another" in printed


def test_headers_and_levels_in_javascript(author):
    project = author.new("hello", "javascript")
    (project / "task.js").write_text(
        """
        import { http } from "wasq-task";

        export default function ({ url }) {
          console.error("an error");
          console.warn("a warning");
          console.debug("%s is %d", "Ada", 36, { n: [1] });
          const given = [{ "x-a": "1" }, new Headers({ "x-a": "1" }), new Map([["x-a", "1"]]), [["x-a", "1"]], { "x-a": ["1"] }];
          return given.map((headers) => http.get(url, { headers }).status);
        }
        """
    )
    (project / "hello.toml").write_text('allow_hosts = ["https://x.test"]\n')
    answer = '[[case.answers]]\nurl = "https://x.test/a"\nrequest_headers = { x-a = "1" }\n'
    (project / "tests.toml").write_text(
        '[[case]]\nname = "headers"\nparams = { url = "https://x.test/a" }\n' + answer * 5 + "[case.expect]\nsuccess = [200, 200, 200, 200, 200]\n"
    )
    author.shell("wasq test hello")
    params = json.dumps({"url": "https://elsewhere.test/"})
    author.shell(f"wasq run hello/build/hello.wasm --params '{params}'", code=1)
    for line in ("ERROR task: an error", " WARN task: a warning", "DEBUG task: Ada is 36 { n: [ 1 ] }"):
        assert line in author.said or line.startswith("DEBUG"), author.said


def test_levels_of_pythons_logging(author):
    project = author.new("hello", "python")
    (project / "task.py").write_text(
        """
import logging
from wasq_task import task

logging.basicConfig(level=logging.INFO)

@task
def run():
    logging.info("an info line")
    logging.error("an error line")
    logging.debug("not this one")
    logging.getLogger("urllib3").warning("%s of a library", "a line")
"""
    )
    author.shell("wasq build hello")
    author.shell("wasq run hello/build/hello.wasm")
    for line in ("INFO task: an info line", "ERROR task: an error line", "WARN task: a line of a library"):
        assert line in author.said, author.said
    assert "not this one" not in author.said


# Sources that the build of a Python task refuses, each with a text of the message.
REFUSED_IN_PYTHON = {
    "import native\n@task\ndef run(): pass": "native is native code",
    "@task\ndef run():\n    import native": "task.py:4: import native: native is native code",
    "@task\ndef run():\n    from advice import speed": "task.py:4: import advice: advice._core is native code",
    "import advice\n@task\ndef run(): pass": "import the task: advice._core is native code",
    "@task\ndef run(*names): pass": "params have names, so a task has no *names",
    "@task\ndef run(a: bytes): pass": "the parameter a: a param cannot be of the type bytes",
    "@task\ndef run(a: 'Nowhere'): pass": "an annotation names what is not there",
    "@task\ndef run(): yield 1": "a task returns its result; it does not yield",
    "@task\ndef a(): pass\n@task\ndef b(): pass": "task.py must have one function with the decorator @task; it has a, b",
    "def run(): pass": "it has none",
}


def test_what_python_refuses(author):
    project = author.new("hello", "python")
    (project / "native.cpython-314-wasm32-wasi.so").write_bytes(b"")
    # A package that wraps the refusal into advice of its own, as numpy does.
    author.shell("python3 -m venv --without-pip hello/.venv")
    [packages] = project.glob(".venv/lib/python3*/site-packages")
    (packages / "advice").mkdir()
    (packages / "advice-1.dist-info").mkdir()
    (packages / "advice" / "_core.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    wrapped = "try:\n    from . import _core\nexcept ImportError as e:\n    raise ImportError('reinstall it; original error: ' + str(e)) from e\n"
    (packages / "advice" / "__init__.py").write_text(wrapped)
    for source, said in REFUSED_IN_PYTHON.items():
        (project / "task.py").write_text(f"from wasq_task import task\n{source}\n")
        author.shell("wasq build hello", code=2)
        assert said in author.said, (source, author.said)
        # The author's mistake stands alone.
        assert "componentize_py.command" not in author.said and "Stack backtrace" not in author.said


def test_asynchronous_tasks_in_python(author):
    project = author.new("hello", "python")
    (project / "tests.toml").write_text(
        """
[[case]]
name = "the result of a coroutine"
params = { n = 2 }
expect.success = [0, 1]

[[case]]
name = "a rejection in a group"
params = { n = -1 }
expect.failure = { kind = "reject", message = "n is negative" }

[[case]]
name = "a traceback shows the line"
params = { n = 99 }
expect.failure = { kind = "retry", message = "too_many = 1 / 0" }
"""
    )
    (project / "task.py").write_text(
        """
import asyncio
import functools

from wasq_task import Reject, task


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


async def checked(n):
    await asyncio.sleep(0)
    if n < 0:
        raise Reject("n is negative")
    if n > 9:
        too_many = 1 / 0
    return list(range(n))


@task()
@traced
async def run(n: int):
    async with asyncio.TaskGroup() as group:
        result = group.create_task(checked(n))
    return result.result()
"""
    )
    author.shell("wasq test hello")


def test_a_compile_error_stands_alone(author):
    project = author.new("hello", "rust")
    source = project / "src/lib.rs"
    source.write_text(source.read_text().replace("Ok(", "Okay(", 1))
    author.shell("wasq build hello", code=2)
    assert "cannot find function" in author.said and "src/lib.rs:" in author.said
    assert '{"reason"' not in author.said and len(author.said) < 4000, author.said


def test_the_page_about_tests_names_every_key(author):
    page = (ROOT / "docs" / "tests.md").read_text()
    shutil.copy(GUESTS / "verbs.wasm", author.folder)
    for wrong in ("[[case]]\nnonsense = 1", "[[case]]\nname = 'a'\nanswers = [{ nonsense = 1 }]", "[[case]]\nname = 'a'\nexpect = { nonsense = 1 }"):
        (author.folder / "tests.toml").write_text(wrong)
        author.shell("wasq test verbs.wasm", code=2)
        keys = re.findall(r"`(\w+)`", author.said.split("expected one of")[1])
        assert len(keys) >= 5
        for key in keys:
            assert f"`{key}`" in page or f"`expect.{key}`" in page, key


def test_a_part_of_a_result(author):
    shutil.copy(GUESTS / "verbs.wasm", author.folder)
    case = """
[[case]]
name = "a part"
params = { verb = "echo", value = { a = 1, b = { c = [1, { d = 2, e = 3 }, 4] } } }
expect.success_includes = %s
"""
    for part in ("{ a = 1 }", "{ b = { c = [{ d = 2 }, 4] } }", "{}"):
        (author.folder / "tests.toml").write_text(case % part)
        author.shell("wasq test verbs.wasm")
    for part in ("{ a = 2 }", "{ z = 1 }", "{ b = { c = [4, 1] } }"):
        (author.folder / "tests.toml").write_text(case % part)
        printed = author.shell("wasq test verbs.wasm", code=1)
        assert "expected a result with" in printed


def test_messages_wait_for_a_project_that_is_built(author):
    """The guide's second terminal may be faster than the first."""
    project = author.new("hello", "c")
    whole = (project / "task.c").read_text()
    (project / "task.c").write_text(whole.replace("return", "retrun", 1))
    author.environment["XDG_STATE_HOME"] = str(author.folder / "state")
    author.start_dev("hello")
    command = """wasq enqueue hello --params '{"name": "Ada"}' --wait"""
    waiting = subprocess.Popen(
        ["/bin/bash", "-c", command], cwd=author.folder, env=author.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: "hello is not live yet" in author.log(), "a message that waits")
    (project / "task.c").write_text(whole)
    said = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and json.loads(said[0]) == {"greeting": "Hello, Ada!"}, said
    assert "`wasq dev` builds its project; the message waits for it" in said[1]


def test_a_project_by_a_link_and_by_run_and_check(author):
    author.new("hello", "c")
    (author.folder / "greeter").symlink_to("hello")
    shutil.move(author.folder / "hello" / "hello.toml", author.folder / "hello" / "greeter.toml")
    (author.folder / "hello" / "greeter.toml").write_text('timeout = "3s"\n')
    greeting = author.shell("""wasq run greeter --params '{"name": "Ada"}'""")
    assert json.loads(greeting) == {"greeting": "Hello, Ada!"}
    assert author.shell("wasq check greeter").startswith("fits ")
    assert (author.folder / "hello" / "build" / "greeter.wasm").exists()
