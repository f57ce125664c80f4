"""The expectations of authors of their language: a table of rows for each language, beside the one for wasq's own contract.

A row is a piece of the standard library, or a package, in use. CPython itself says what is right.
"""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.authors

TABLES = ROOT / "proofs" / "languages"
SDK = ROOT / "sdk" / "python"

# Prints each row's name and value. The rows that need a host are not run.
RUN_ROWS = """
import json, sys
import task
skipped = set(sys.argv[1:])
print(json.dumps({row: task.run(row) for row in task.ROWS if row not in skipped}))
"""


def cases(expected, answers=None):
    """A file of tests: each row must give its value."""
    for row, value in expected.items():
        lines = [f"[[case]]\nname = {json.dumps(row)}\nparams = {{ row = {json.dumps(row)} }}"]
        for url in (answers or {}).get(row, []):
            headers = '{ content-type = "application/json" }'
            lines.append(f'[[case.answers]]\nurl = {json.dumps(url)}\nbody = \'{{"n":5}}\'\nheaders = {headers}')
        lines.append(f"[case.expect]\nsuccess_json = {json.dumps(json.dumps(value))}\n")
        yield "\n".join(lines)


def right_values(python, project, skipped=()):
    done = subprocess.run(
        [python, "-c", RUN_ROWS, *skipped],
        cwd=project,
        env={"PYTHONPATH": f"{SDK}:{project}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(author, project, expected, answers=None):
    (project / "tests.toml").write_text("\n".join(cases(expected, answers)))
    author.shell(f"wasq test {project.name}")


def test_pythons_standard_library(author):
    project = author.folder / "rows"
    shutil.copytree(TABLES / "python", project)
    # These two are about the component itself, and need Python 3.12.
    expected = right_values(sys.executable, project, ["signatures", "result"])
    assert len(expected) >= 180
    expected["signatures"] = []
    expected["result"] = {
        "when": "2024-07-01T12:00:00+00:00",
        "colour": "red",
        "address": {"street": "s", "zip": "?"},
        "tags": [1],
        "price": "1.50",
        "id": "00000000-0000-0000-0000-000000000005",
        "point": [1, 0],
        "counts": {"blue": 1},
    }
    check(author, project, expected)


# The rows that are newer than Node.js 20, with their values.
NEWER = {
    "array group": [{"odd": [1, 3], "even": [2]}, [1, 0]],
    "array fromAsync": [0, 1, 2],
    "sets": [[1, 2], [1, 2, 3], [2]],
    "iterators": [2, 6],
    "promise resolvers": "late",
    "json import": 5,
}


def right_values_of_javascript(project, skipped=()):
    script = ["node", TABLES / "run-rows.mjs", project, *skipped]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_javascript_has(author):
    project = author.folder / "rows"
    shutil.copytree(TABLES / "javascript", project)
    (project / "node_modules").symlink_to(ROOT / "example-tasks" / "node_modules")
    expected = right_values_of_javascript(project, NEWER) | NEWER
    assert len(expected) >= 90
    check(author, project, expected)


def test_packages_of_npm(author):
    project = author.folder / "packages"
    shutil.copytree(TABLES / "javascript-packages", project)
    author.shell("cd packages && npm install --silent --no-audit --no-fund")
    requests = {row: {"n": 5} for row in ("axios", "ky", "fetch")}
    expected = right_values_of_javascript(project, requests) | requests
    assert len(expected) >= 40
    (project / "packages.toml").write_text('allow_hosts = ["https://api.example.com"]\n')
    check(author, project, expected, {row: [URL] for row in requests})


# Code that the build of a JavaScript task refuses, each with a text of the message.
REFUSED_BY_THE_BUILD = {
    "new Intl.NumberFormat('de')": "tasks in JavaScript do not have Intl",
    "Buffer.from('x')": "tasks in JavaScript do not have Buffer",
    "process.exit(1)": "tasks in JavaScript do not have process",
    "'é'.normalize('NFC')": "tasks in JavaScript do not have normalize",
    "new WebSocket('wss://x.test')": "tasks in JavaScript do not have WebSocket",
    "top.property": "task.js:1",
}
ENDS_OF_RUNS = {
    "Object.assign(new Error('bad user'), { errors: { email: ['is not an address'] } })": ["Error: bad user", "is not an address"],
    "Object.assign(new Error('x'), { errors: 5, code: 'E_X' })": ["Error: x", "E_X"],
    "Object.defineProperty(new Error('x'), 'message', { get() { throw 1 } })": ["Error"],
    "Object.assign(new Error('x'), { message: Symbol('s') })": ["Error"],
    "new AggregateError([new Error('one'), 2], 'all')": ["AggregateError: all", "caused by Error: one", "caused by thrown: 2"],
    "new Error('a', { cause: new TypeError('b', { cause: 'c' }) })": ["Error: a", "caused by TypeError: b", "caused by thrown: c"],
    "(() => { const e = new Error('me'); e.cause = e; return e })()": ["Error: me"],
    "Object.assign(new Error('x'), { stack: 5 })": ["Error: x"],
    "{ message: 'plain' }": ["thrown: { message: \"plain\" }"],
    "null": ["thrown: null"],
    "undefined": ["thrown: undefined"],
    "Symbol('s')": ["thrown: Symbol(s)"],
    "new Proxy({}, { get() { throw new Error('trap') } })": ["cannot be shown"],
}
RUNS = {
    "Promise.reject(new Error('nobody awaits'))": ["Error: nobody awaits", "(task.js:"],
    "(async () => { await null; throw new Error('later'); })()": ["Error: later", "(task.js:"],
    "new Date(0).toLocaleDateString('en-US', { timeZone: 'America/New_York' })": ["needs Intl"],
    "(1.5).toLocaleString('de-DE')": ["needs Intl"],
    "await fetch('http://me:secretpw@127.0.0.1/')": ["user or a password"],
    "http.get('https://x.test/', { headers: { a: undefined } })": ["headers: a is undefined"],
    "http.get('https://x.test/', { headers: 'a: b' })": ["headers: expected an object"],
    "Promise.resolve()?.then(() => { throw new Error('optional'); })": ["Error: optional"],
    "true && Promise.reject(new Error('and'))": ["Error: and"],
    "(Promise.reject(new Error('parens')))": ["Error: parens"],
    "console.log('%j %d %s', (() => { const a = {}; a.a = a; return a; })(), Symbol('x')); helper()": ['can\'t access property "property"'],
    "helper()": ['can\'t access property "property"', "at helper (helper.js:4:", "(task.js:"],
}


def test_what_javascript_does_not_have(author):
    project = author.new("missing", "javascript")
    for code, said in REFUSED_BY_THE_BUILD.items():
        wrapped = f"export default () => {code};" if code != "top.property" else "const top = undefined; top.property;\nexport default () => 1;"
        (project / "task.js").write_text(wrapped)
        author.shell("wasq build missing", code=2)
        assert said in author.said and "task.js:1" in author.said, (code, author.said)
    # A name of one's own is none of these, and a package may have another way.
    own = {
        "a": "const { process } = { process: () => 1 }; export const value = process(1);",
        "b": "export const value = (({ process }) => process)({ process: 1 });",
        "c": "const [process = 1] = []; export const value = process;",
        "d": "const f = 1; export { f as process }; export const value = f;",
        "e": "export const value = typeof process === 'undefined' ? 1 : process.pid;",
        "f": "import { process as other } from './d.js'; export const value = other;",
        "g": "try { throw 1; } catch (Buffer) { globalThis.caught = Buffer; } export const value = globalThis.caught;",
        "h": "export const value = ({ Intl: 1 }).Intl;",
    }
    for name, code in own.items():
        (project / f"{name}.js").write_text(code)
    imports = "".join(f"import {{ value as {name} }} from './{name}.js'; " for name in own)
    (project / "task.js").write_text(f"{imports}export default () => [{', '.join(own)}];")
    (project / "tests.toml").write_text(f'[[case]]\nname = "own"\nexpect.success = {[1] * len(own)}\n')
    author.shell("wasq test missing")
    (project / "task.js").write_text("export default () => [typeof Intl, typeof Buffer, /^\\p{L}+$/u.test('é')];")
    (project / "tests.toml").write_text('[[case]]\nname = "typeof"\nexpect.success = ["undefined", "undefined", true]\n')
    author.shell("wasq test missing")


def test_errors_of_javascript_say_what_and_where(author):
    project = author.new("errors", "javascript")
    (project / "helper.js").write_text("// A comment.\n\nexport function helper() {\n  return undefined.property;\n}\n")
    ends = [*(f"() => {{ throw {code}; }}" for code in ENDS_OF_RUNS), *(f"async () => {{ {code}; }}" for code in RUNS)]
    said = [*ENDS_OF_RUNS.values(), *RUNS.values()]
    (project / "task.js").write_text(
        'import { http } from "wasq-task"; import { helper } from "./helper.js";\n'
        + "const ends = [\n" + ",\n".join(ends) + "\n];\n"
        + "export default ({ which }) => ends[which]();\n"
    )
    cases = (f'[[case]]\nname = "{which}"\nparams = {{ which = {which} }}\nexpect.success = "never"\n' for which in range(len(ends)))
    (project / "tests.toml").write_text("\n".join(cases))
    shown = json.loads(author.shell("wasq test errors --json", code=1))
    for source, texts, case in zip(ends, said, shown["cases"], strict=True):
        assert case["outcome"]["kind"] == "retry", (source, case)
        for text in texts:
            assert text in case["outcome"]["message"], (source, case)


URL = "https://api.example.com/x"
# The rows that send a request, with the value that each must give.
REQUESTS = {
    "requests": {"n": 5},
    "requests.session": 200,
    "httpx": {"n": 5},
    "httpx.client": {"n": 5},
    "urllib3": {"n": 5},
    "urllib.request": [200, '{"n":5}'],
    "http.client": [200, "application/json", '{"n":5}'],
}
REFUSED = {
    "requests.denied": True,
    "socket": "a task has no sockets, only HTTP requests: other protocols, such as those of databases, do not work",
}


def test_packages_of_pypi(author):
    project = author.folder / "packages"
    shutil.copytree(TABLES / "python-packages", project)
    author.shell("cd packages && python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt")
    expected = right_values(project / ".venv/bin/python", project, [*REQUESTS, *REFUSED])
    assert len(expected) >= 30
    answers = {row: [URL] for row in REQUESTS} | {"requests": [f"{URL}?q=é"]}
    (project / "packages.toml").write_text('allow_hosts = ["https://api.example.com"]\n')
    check(author, project, expected | REQUESTS | REFUSED, answers)


def nested(levels):
    return "[" * levels + "1" + "]" * levels


# The results that every language can give, as JSON.
RESULTS = {
    "null": "null",
    "true": "true",
    "false": "false",
    "largest": str(2**63 - 1),
    "smallest": str(-(2**63)),
    "double": "1.5",
    "huge": "1e308",
    "tiny": "5e-324",
    "text": json.dumps('é😀 "\\/\n\0\x7f\u2028'),
    "empty text": '""',
    "list": '[1, "a", null, [true]]',
    "empty list": "[]",
    "object": '{"a": {"b": [1]}, "": 1, "é b": 2}',
    "empty object": "{}",
    "deep": nested(400),
    "long": json.dumps("x" * 100_000),
}
# The results of the types that one language has.
RESULTS_OF = {
    "rust": {
        "not finite": "[null, null]",
        "struct": '{"zipCode": null}',
        "tuple struct": '[1, "é"]',
        "unit struct": "null",
        "enum": '[{"kind": "round-thing", "radius": 0.5}, {"kind": "nothing"}]',
        "tuple": '[1, "a", 2.5, null]',
        "map with numbers": '{"7": "seven"}',
        "set": "[3]",
        "result": '{"Ok": 3}',
        "u64": str(2**64 - 1),
        "bytes": "[0, 255]",
        "box": '"text"',
    },
    "javascript": {
        "largest": str(2**53 - 1),
        "smallest": str(1 - 2**53),
        "deep": nested(300),
        "not finite": "[null, null]",
        "undefined": "null",
        "function": "null",
        "members": '{"d": [null]}',
        "date": '"1970-01-01T00:00:00.000Z"',
        "invalid date": "[null]",
        "class": '{"x": 1, "y": 2}',
        "toJSON": '["1.5 EUR"]',
        "map": '{"a": 1, "2": {"b": [1, "c"]}}',
        "set": '[1, [2], {"a": []}]',
        "boxed": '["s", 1, false]',
        "url": '"https://example.com/%C3%A9"',
        "typed array": '{"0": 1, "1": 2}',
        "promise": "5",
        "without a prototype": '{"a": 1}',
        "error": "{}",
        "regexp": "{}",
    },
    "go": {
        "nil slice": "null",
        "nil map": "null",
        "bytes": '"AP8="',
        "array": "[0, 255]",
        "struct": '{"id": 1, "zip": null, "count": "3"}',
        "pointer": '{"id": 0, "zip": null, "count": "0"}',
        "map with numbers": '{"7": "seven"}',
        "text of a type": '{"red": "blue"}',
        "json of a type": "[1.5]",
        "time": '"1970-01-01T00:00:00.000000005Z"',
        "duration": "2000000000",
        "raw": '{"a": [1, 2]}',
        "number": "12345678901234567890.5",
        "big": "1" + "0" * 30,
        "html": '"<a&b>"',
        "not UTF-8": '"a\ufffdb"',
        "generic": '{"any": [["a"], null]}',
    },
    "c": {
        "not UTF-8": '"a\ufffdb"',
        "control characters": '"\\u0001\\t\\u001f"',
        "bytes of a string": "[4, 0]",
    },
    "cpp": {
        "not finite": "[null, null]",
        "integers": f"[1, 2, 3, 4, {2**64 - 1}, 5, 6]",
        "floats": "[0.5, 0.25, 0.125]",
        "optional": '[null, "a", 2.5]',
        "strings": '["a", "b", "c"]',
        "ranges": '[[1, 2], ["a"], [[true], []]]',
        "map": '{"a": [1, null], "b": []}',
        "params with NUL": '"a\\u0000b"',
        "not UTF-8": '"a\ufffdb"',
    },
    "zig": {
        "struct": '{"zip": null, "street": "s", "colour": "blue"}',
        "optional": "[null, 5]",
        "array": "[-1, 2]",
        "tagged union": '[{"round": 0.5}, {"nothing": {}}]',
        "tuple": '[1, "red", "t"]',
        "slices": '["a", "b"]',
    },
}
# The results that are no JSON, each with the kind and a text of the reason.
NO_RESULTS = {
    "javascript": {
        "bigint": ("retry", "BigInt"),
        "circle": ("retry", "cyclic object value"),
        "getter": ("retry", "from a getter"),
    },
    "go": {
        "channel": ("retry", "unsupported type: chan int"),
        "not finite": ("retry", "unsupported value: NaN"),
        "complex": ("retry", "unsupported type: complex128"),
        "function": ("retry", "unsupported type: func"),
    },
    "c": {
        "not JSON": ("output-not-json", "column 2"),
        "nothing": ("output-not-json", "EOF"),
        "two values": ("output-not-json", "trailing characters"),
        "not a number": ("output-not-json", "expected"),
    },
}
SOURCES = {
    "rust": "src/lib.rs",
    "javascript": "task.js",
    "go": "task.go",
    "c": "task.c",
    "cpp": "task.cpp",
    "zig": "task.zig",
}


@pytest.mark.parametrize("language", SOURCES)
def test_results(author, language):
    project = author.new("results", language)
    source = project / SOURCES[language]
    shutil.copy(TABLES / "results" / source.name, source)
    if language == "rust":
        author.shell("cd results && cargo add --quiet serde_json")
    expected = RESULTS | RESULTS_OF[language]
    refused = NO_RESULTS.get(language, {})
    cases = [
        f"[[case]]\nname = {json.dumps(row)}\nparams = {{ row = {json.dumps(row)} }}\n"
        + (f"expect.failure = {{ kind = {json.dumps(refused[row][0])} }}\n" if row in refused else f"expect.success_json = {json.dumps(expected[row])}\n")
        for row in [*expected, *refused]
    ]
    (project / "tests.toml").write_text("\n".join(cases))
    shown = json.loads(author.shell("wasq test results --json"))
    for case in shown["cases"]:
        if case["name"] in refused:
            assert refused[case["name"]][1] in case["outcome"]["message"], case
