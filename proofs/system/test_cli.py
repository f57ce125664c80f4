"""`wasq run` and the wrong use of every command."""

import json
import shutil
import sqlite3
import subprocess
import time

import pytest

from conftest import BINARIES, CORE_MODULE, GUESTS, wait_for


def wasq(folder, *args):
    return subprocess.run([BINARIES / "wasq", *args], cwd=folder, capture_output=True, text=True, timeout=60)


def test_run_prints_the_result(tmp_path):
    done = wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"hello":{"a":1}}\n')
    for word in ("greeting", "outcome  success", "time  ", "memory  "):
        assert word in done.stderr, done.stderr


def test_a_component_is_compiled_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run = lambda: wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", '{"a": 1}')
    assert run().returncode == 0
    [kept] = (path for path in cache.glob("wasq/*/*") if path.parent.name != "functions")
    written = kept.stat().st_ino
    assert run().returncode == 0 and kept.stat().st_ino == written
    # A damaged file is not executed, and others must not be able to write the folder.
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert run().returncode == 0 and kept.stat().st_ino != written
    written = kept.stat().st_ino
    kept.write_bytes(b"")
    kept.parent.chmod(0o777)
    assert run().returncode == 0 and kept.read_bytes() == b""


def test_a_function_is_compiled_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run = lambda: wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", '{"a": 1}').returncode
    assert run() == 0
    [file] = cache.glob("wasq/functions/*.db")
    [components] = (path for path in cache.glob("wasq/*") if path.name != "functions")
    functions = lambda: sqlite3.connect(file).execute("SELECT count(*) FROM functions").fetchone()[0]
    first = functions()
    shutil.rmtree(components)
    assert run() == 0 and functions() < 1.3 * first
    # Others must not be able to write the folder.
    shutil.rmtree(components)
    file.unlink()
    file.parent.chmod(0o777)
    assert run() == 0 and not file.exists()


def test_run_as_json(tmp_path):
    done = wasq(tmp_path, "run", GUESTS / "verbs.wasm", "--params", '{"verb": "log", "count": 2}', "--json")
    value = json.loads(done.stdout)
    assert (value["outcome"], value["output"]) == ("success", 2)
    assert value["log"] == [
        {"level": "debug", "text": "line 0"},
        {"level": "debug", "text": "line 1"},
        {"level": "info", "text": "to stdout"},
        {"level": "warn", "text": "to stderr, without an end"},
    ]
    assert value["peak_memory_bytes"] > 0 and value["duration_ms"] > 0


@pytest.mark.parametrize("value", ["[" * 400 + "]" * 400, "-1e999999999", '"\\ud800"', "12345678901234567890.123456789"])
def test_a_result_that_few_parsers_read(tmp_path, value):
    params = json.dumps({"verb": "raw", "text": value})
    done = wasq(tmp_path, "run", GUESTS / "verbs.wasm", "--params", params)
    assert (done.returncode, done.stdout) == (0, f"{value}\n"), done
    done = wasq(tmp_path, "run", GUESTS / "verbs.wasm", "--params", params, "--json")
    assert (done.returncode, f'"output":{value},' in done.stdout) == (0, True), done
    case = {"name": "odd", "params_json": params, "expect.success_json": f" {value} "}
    (tmp_path / "tests.toml").write_text("[[case]]\n" + "".join(f"{key} = '{text}'\n" for key, text in case.items()))
    done = wasq(tmp_path, "test", GUESTS / "verbs.wasm", "--cases", tmp_path / "tests.toml", "--json")
    assert (done.returncode, f'"output":{value}}}' in done.stdout) == (0, True), done


def test_run_of_a_task_that_fails(tmp_path):
    done = wasq(tmp_path, "run", GUESTS / "verbs.wasm", "--params", '{"verb": "retry", "reason": "later"}')
    assert (done.returncode, done.stdout) == (1, "")
    assert "outcome  failure, retry: later" in done.stderr


def test_run_takes_the_settings_beside_the_file(tmp_path):
    (tmp_path / "verbs.wasm").write_bytes((GUESTS / "verbs.wasm").read_bytes())
    (tmp_path / "verbs.toml").write_text('[env]\nWHO = "me"\n')
    done = wasq(tmp_path, "run", "verbs.wasm", "--params", '{"verb": "env"}')
    assert json.loads(done.stdout) == {"WHO": "me"}, "only the task's own environment"


WRONG = [
    (["run", "missing.wasm"], "read missing.wasm: No such file"),
    (["run", "core.wasm"], "core.wasm: a core WebAssembly module, not a component"),
    (["run", GUESTS / "hello.wasm", "--params", "{"], '--params "{" is not JSON'),
    (["run", GUESTS / "hello.wasm", "--settings", "typo.toml"], "unknown field `timeot`"),
    (["enqueue", "hello"], "no `wasq dev` has run with the data folder .wasq"),
    (["enqueue", "a/b"], "a task name consists of"),
    (["enqueue", "hello", "--params", "{"], '--params "{" is not JSON'),
    (["enqueue", "hello", "--queue-url", "http://127.0.0.1:1/0/q"], "is `wasq dev` running?"),
    (["tasks"], "no `wasq dev` has run with the data folder .wasq"),
    (["dev", "--listen", "nowhere"], "invalid socket address"),
    (["dev", "--lease", "1s"], "a lease lies between 5s and 12h"),
    (["frobnicate"], "unrecognized subcommand"),
]


@pytest.mark.parametrize("args, text", WRONG, ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, list) else "")
def test_wrong_use(tmp_path, args, text):
    (tmp_path / "core.wasm").write_bytes(CORE_MODULE)
    (tmp_path / "typo.toml").write_text('timeot = "1s"\n')
    done = wasq(tmp_path, *args)
    assert done.returncode == 2 and text in done.stderr, done.stderr


def test_errors_as_json(tmp_path):
    done = wasq(tmp_path, "tasks", "--json")
    assert "no `wasq dev` has run" in json.loads(done.stdout)["error"]


def test_params_from_a_file_and_from_stdin(tmp_path):
    (tmp_path / "params.json").write_text('{"a": 1}')
    done = wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", "@params.json")
    assert (done.returncode, done.stdout) == (0, '{"hello":{"a":1}}\n')
    done = wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", "@nowhere.json")
    assert done.returncode == 2 and "read the params from nowhere.json" in done.stderr
    (tmp_path / "params.json").write_text("{]")
    done = wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", "@params.json")
    assert done.returncode == 2 and "the file params.json is not JSON" in done.stderr


def test_many_messages_from_stdin(dev):
    send = [BINARIES / "wasq", "enqueue", "later", "--params", "-", "--json"]

    def run(text, *options, code=0):
        done = subprocess.run([*send, *options], cwd=dev.folder, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    assert run('{"n": 1}\n\n{"n": 2}\n{"n": 3}\n', "--delay", "2h")["sent"] == 3
    assert run('{\n  "n": 1\n}\n', "--count", "25", "--at", "2099-01-01T00:00:00Z", code=2)["error"].startswith("a message can wait for a year at most")
    assert run('{"n": 1}', "--count", "25", "--delay", "1d")["sent"] == 25
    assert "line 2 of stdin is not JSON" in run('{"n": 1}\n{]\n', code=2)["error"]
    assert "stdin is empty" in run("", code=2)["error"]
    assert "--wait waits for one message, and these are 2" in run("1\n2\n", "--wait", code=2)["error"]
    wait_for(lambda: dev.counts() == (0, 0, 28), "messages that wait for their time")


def test_a_command_finds_wasq_dev_from_any_folder(new_dev, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("XDG_STATE_HOME", str(elsewhere / "state"))
    new_dev.start()
    below = new_dev.folder / "a" / "b"
    below.mkdir(parents=True)
    for folder in (elsewhere, below):
        done = wasq(folder, "status", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["queue"]["url"] == new_dev.queue_url
    new_dev.kill()
    assert "no `wasq dev` has run" in wasq(elsewhere, "tasks").stderr


def test_an_unknown_task_is_said_at_once_and_what_happens_meanwhile(dev):
    dev.publish("verbs", settings='[backoff]\nbase = "0s"\n')
    done = wasq(dev.folder, "enqueue", "verb", "--params", "{}")
    assert "no task named verb is live; similar: verbs; the message waits for it, up to a minute" in done.stderr
    params = '{"verb": "flaky", "succeeds_in": 3}'
    done = wasq(dev.folder, "enqueue", "verbs", "--params", params, "--wait")
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    for attempt in (1, 2):
        assert f"wasq: attempt {attempt} failed: retry: attempt {attempt} fails" in done.stderr, done.stderr


def test_a_message_that_waits_for_a_build_keeps_its_attempts(author):
    project = author.new("task", "rust")
    source = (project / "src" / "lib.rs").read_text()
    (project / "src" / "lib.rs").write_text("not Rust")
    (project / "task.toml").write_text("max_attempts = 1\n")
    author.start_dev("task")
    author.shell("wasq enqueue task --params '{\"name\": \"Ada\"}' --id early")
    wait_for(lambda: "task is not live yet" in author.log(), "a message that waits")
    # Longer than the wait after another fault of the host.
    time.sleep(7)
    (project / "src" / "lib.rs").write_text(source)
    records = lambda: [json.loads(line) for line in author.shell("wasq logs --id early --json").splitlines()]
    done = wait_for(lambda: [record for record in records() if record.get("then") == "done"], "the run", 60)
    assert done[0]["attempt"] == 1


def test_secrets_that_are_added_are_seen(dev):
    settings = '[secrets]\nTOKEN = "ssm:/wasq/token"\n'
    (dev.tasks / "verbs.toml").write_text(settings)
    (dev.tasks / "verbs.wasm").write_bytes((GUESTS / "verbs.wasm").read_bytes())
    wait_for(lambda: dev.listed("verbs")["rejected"], "a refusal")
    secrets = dev.folder / ".wasq" / "secrets.toml"
    secrets.write_text('TOKEN = "a-long-value"\n')
    secrets.chmod(0o644)
    wait_for(lambda: "chmod 600" in dev.listed("verbs")["rejected"]["reason"], "a refusal with the reason")
    secrets.chmod(0o600)
    wait_for(lambda: dev.listed("verbs")["live"], "a live task")


def test_completions_and_man_pages(tmp_path):
    for shell, word in (("bash", "complete -F _wasq"), ("zsh", "#compdef wasq"), ("fish", "complete -c wasq")):
        assert word in wasq(tmp_path, "completions", shell).stdout
    assert wasq(tmp_path, "completions", "--man", "man").returncode == 0
    assert ".TH wasq-enqueue 1" in (tmp_path / "man" / "wasq-enqueue.1").read_text()
    assert wasq(tmp_path, "completions").returncode == 2


def test_what_is_no_component(tmp_path):
    (tmp_path / "text").write_text("root:x:0:0")
    for command in ("check", "push", "run"):
        done = wasq(tmp_path, command, "text")
        assert done.returncode == 2 and "text is not WebAssembly; give a component, or a project's folder" in done.stderr
