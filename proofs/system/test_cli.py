"""`wasq run` and the wrong use of every command."""

import json
import subprocess

import pytest

from conftest import BINARIES, CORE_MODULE, GUESTS


def wasq(folder, *args):
    return subprocess.run([BINARIES / "wasq", *args], cwd=folder, capture_output=True, text=True, timeout=60)


def test_run_prints_the_result(tmp_path):
    done = wasq(tmp_path, "run", GUESTS / "hello.wasm", "--params", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"hello":{"a":1}}\n')
    for word in ("greeting", "outcome  success", "time  ", "memory  "):
        assert word in done.stderr, done.stderr


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
    (["tasks"], "there is no data folder .wasq"),
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
    assert "there is no data folder" in json.loads(done.stdout)["error"]
