"""Requests on the wire: a table of requests through both interfaces, and what a strict origin receives and answers."""

import json
import shutil
import subprocess

import pytest

from conftest import BINARIES, GUESTS
from origin import Origin

TASK, WASI = {"task"}, {"wasi"}
BOTH = TASK | WASI
OK = '{"n": 5}'
BASIC = "Basic bWU6cGFzcw=="


def sends(line, **rest):
    return {"line": line, **rest}


def not_safe(i):
    return [
        (f"before a connection that closes early, {i}", BOTH, {"path": "/early"}, {"status": 200}),
        (f"not safe, {i}", BOTH, {"method": "POST", "path": "/echo?again"}, {"error or answer": "connection"}),
    ]


# For each row: its name, the interfaces, the request, and what must be so. `line` is the request's first line, `has` are
# headers that the origin receives, `lacks` are headers that it does not; `body` is the answer's body; `error` is a text in
# the error; `error or answer` is one, unless there is an answer.
ROWS = [
    # ---- Length ----
    ("GET without a body", BOTH, {}, sends("GET /echo HTTP/1.1", lacks=["content-length", "transfer-encoding"])),
    ("HEAD", BOTH, {"method": "HEAD"}, {"status": 200, "body": ""}),
    ("DELETE without a body", BOTH, {"method": "DELETE"}, sends("DELETE /echo HTTP/1.1", lacks=["transfer-encoding"])),
    ("OPTIONS", BOTH, {"method": "OPTIONS"}, sends("OPTIONS /echo HTTP/1.1")),
    ("POST without a body", BOTH, {"method": "POST"}, sends("POST /echo HTTP/1.1", has={"content-length": "0"})),
    ("PUT without a body", BOTH, {"method": "PUT"}, sends("PUT /echo HTTP/1.1", has={"content-length": "0"})),
    ("PATCH without a body", BOTH, {"method": "PATCH"}, sends("PATCH /echo HTTP/1.1", has={"content-length": "0"})),
    ("POST with an empty body", TASK, {"method": "POST", "body": ""}, sends("POST /echo HTTP/1.1", has={"content-length": "0"})),
    ("PUT with an empty body", TASK, {"method": "PUT", "body": ""}, sends("PUT /echo HTTP/1.1", has={"content-length": "0"})),
    ("POST with a body", TASK, {"method": "POST", "body": "é"}, sends("POST /echo HTTP/1.1", has={"content-length": "2"})),
    ("a body with its own length", WASI, {"method": "POST", "body": "abc", "headers": [["content-length", "3"]]}, sends("POST /echo HTTP/1.1", has={"content-length": "3"}, lacks=["transfer-encoding"])),
    ("GET with a body", TASK, {"body": "abc"}, sends("GET /echo HTTP/1.1", has={"content-length": "3"})),
    ("a method of its own", BOTH, {"method": "PROPFIND"}, sends("PROPFIND /echo HTTP/1.1")),
    ("a length that the task sets", TASK, {"headers": [["content-length", "5"]]}, {"error": "content-length is set by the host"}),
    # ---- Methods and targets that are refused ----
    ("CONNECT", BOTH, {"method": "CONNECT"}, {"error": "CONNECT"}),
    ("TRACE", BOTH, {"method": "TRACE"}, {"error": "TRACE"}),
    ("no method", TASK, {"method": ""}, {"error": "method"}),
    ("a method with a blank", TASK, {"method": "GE T"}, {"error": "method"}),
    ("OPTIONS *", WASI, {"method": "OPTIONS", "path": "*"}, {"error": "path"}),
    # ---- URLs ----
    ("no path", TASK, {"path": ""}, sends("GET / HTTP/1.1")),
    ("a query without a path", TASK, {"path": "?q=1"}, sends("GET /?q=1 HTTP/1.1")),
    ("other letters in a query", BOTH, {"path": "/echo?q=é"}, sends("GET /echo?q=%C3%A9 HTTP/1.1")),
    ("other letters in a path", BOTH, {"path": "/users/José"}, sends("GET /users/Jos%C3%A9 HTTP/1.1")),
    ("other alphabets", BOTH, {"path": "/世界?q=😀"}, sends("GET /%E4%B8%96%E7%95%8C?q=%F0%9F%98%80 HTTP/1.1")),
    ("a blank in a query", TASK, {"path": "/echo?q=a b"}, sends("GET /echo?q=a%20b HTTP/1.1")),
    ("a blank in a path", TASK, {"path": "/a b"}, sends("GET /a%20b HTTP/1.1")),
    ("quotation marks", TASK, {"path": '/a"b?q="c"'}, sends("GET /a%22b?q=%22c%22 HTTP/1.1")),
    ("angle brackets", TASK, {"path": "/<a>?q=<b>"}, sends("GET /%3Ca%3E?q=%3Cb%3E HTTP/1.1")),
    ("braces in a path", TASK, {"path": "/{a}?q={b}"}, sends("GET /%7Ba%7D?q={b} HTTP/1.1")),
    ("an apostrophe", TASK, {"path": "/a'b?q='c'"}, sends("GET /a'b?q=%27c%27 HTTP/1.1")),
    ("a backslash", TASK, {"path": "\\a"}, sends("GET /a HTTP/1.1")),
    ("a percent sign stays", BOTH, {"path": "/100%?q=%zz"}, sends("GET /100%?q=%zz HTTP/1.1")),
    ("what is encoded stays", BOTH, {"path": "/%2F%c3%a9?q=%20+"}, sends("GET /%2F%c3%a9?q=%20+ HTTP/1.1")),
    ("dots are resolved", TASK, {"path": "/a/./b/../c"}, sends("GET /a/c HTTP/1.1")),
    ("no way above the root", TASK, {"path": "/../../x"}, sends("GET /x HTTP/1.1")),
    ("a fragment is not sent", TASK, {"path": "/echo?q=1#top"}, sends("GET /echo?q=1 HTTP/1.1")),
    ("two slashes", TASK, {"path": "//a//b"}, sends("GET //a//b HTTP/1.1")),
    ("an empty query", TASK, {"path": "/echo?"}, sends("GET /echo? HTTP/1.1")),
    ("a pipe and brackets", TASK, {"path": "/a|b?q[]=1"}, sends("GET /a|b?q[]=1 HTTP/1.1")),
    ("a line break is left out", TASK, {"path": "/a\r\nb"}, sends("GET /ab HTTP/1.1")),
    ("a line break", WASI, {"path": "/a\r\nx: y"}, {"error": "refused"}),
    ("a host in other letters", TASK, {"url": "http://bücher.example/"}, {"error": "add \\\"http://xn--bcher-kva.example\\\""}),
    ("a scheme in capitals", TASK, {"scheme": "HTTP"}, sends("GET /echo HTTP/1.1")),
    ("blanks around", TASK, {"url": "  http://ADDRESS/echo  "}, sends("GET /echo HTTP/1.1")),
    ("another scheme", TASK, {"url": "ftp://127.0.0.1/"}, {"error": "the scheme is ftp, not https or http"}),
    ("no scheme", TASK, {"url": "127.0.0.1/x"}, {"error": "does not begin with https:// or http://"}),
    ("no host", TASK, {"url": "http://"}, {"error": "empty host"}),
    ("a port that is none", TASK, {"url": "http://127.0.0.1:99999/"}, {"error": "port"}),
    ("an address as one number", TASK, {"url": "http://2130706434/"}, {"error": "add \\\"http://127.0.0.2\\\""}),
    # ---- User and password ----
    ("user and password", TASK, {"user": "me:pass"}, sends("GET /echo HTTP/1.1", has={"authorization": BASIC, "host": "ADDRESS"})),
    ("a user alone", TASK, {"user": "me"}, sends("GET /echo HTTP/1.1", has={"authorization": "Basic bWU6"})),
    ("a password alone", TASK, {"user": ":pass"}, sends("GET /echo HTTP/1.1", has={"authorization": "Basic OnBhc3M="})),
    ("encoded credentials", TASK, {"user": "m%40e:p%C3%A9"}, sends("GET /echo HTTP/1.1", has={"authorization": "Basic bUBlOnDDqQ=="})),
    ("an @ in the password", TASK, {"user": "me:p@ss"}, sends("GET /echo HTTP/1.1", has={"authorization": "Basic bWU6cEBzcw=="})),
    ("the task's own header stays", TASK, {"user": "me:pass", "headers": [["Authorization", "Bearer x"]]}, sends("GET /echo HTTP/1.1", has={"authorization": "Bearer x"})),
    ("credentials by wasi:http", WASI, {"user": "me:pass"}, {"error": "header authorization"}),
    ("credentials in a refusal", BOTH, {"url": "http://me:secretpw@other.example/"}, {"hides": "secretpw"}),
    ("the proposal of a refusal", TASK, {"url": "http://me:secretpw@other.example/"}, {"error": "add \\\"http://other.example\\\" there"}),
    ("a slash in the password", TASK, {"url": "https://me:secret/pw@host.example/"}, {"hides": "secret"}),
    ("a password and one slash", TASK, {"url": "https:/me:secretpw@host.example:99999/"}, {"hides": "secretpw"}),
    ("an @ in the path stays", TASK, {"path": "/echo//b@c"}, sends("GET /echo//b@c HTTP/1.1")),
    ("credentials in what is no URL", TASK, {"url": "http://me:secretpw@:99999999/"}, {"hides": "secretpw"}),
    # ---- Headers ----
    ("a header twice", BOTH, {"headers": [["x-a", "1"], ["x-a", "2"]]}, sends("GET /echo HTTP/1.1", has={"x-a": "2"})),
    ("the host's name", BOTH, {}, sends("GET /echo HTTP/1.1", has={"host": "ADDRESS"})),
    ("another host's name", TASK, {"headers": [["Host", "other.example"]]}, {"error": "host is set by the host"}),
    ("other letters in a header", TASK, {"headers": [["x-a", "é"]]}, sends("GET /echo HTTP/1.1", has={"x-a": "Ã©"})),
    ("a line break in a header", TASK, {"headers": [["x-a", "1\r\nx-b: 2"]]}, {"error": "control character"}),
    ("a name that is none", TASK, {"headers": [["x a", "1"]]}, {"error": "\\\"x a\\\" is not valid"}),
    ("a user agent", BOTH, {}, sends("GET /echo HTTP/1.1", has={"user-agent": "wasq/0.1.0"})),
    ("the task's own user agent", BOTH, {"headers": [["user-agent", "mine"]]}, sends("GET /echo HTTP/1.1", has={"user-agent": "mine"})),
    # ---- Codings of answers ----
    ("codings are asked for", TASK, {}, sends("GET /echo HTTP/1.1", has={"accept-encoding": "gzip, deflate, br, zstd"})),
    ("wasi:http asks for none itself", WASI, {}, sends("GET /echo HTTP/1.1", lacks=["accept-encoding"])),
    ("not for a part of a body", TASK, {"headers": [["range", "bytes=0-4"]]}, sends("GET /echo HTTP/1.1", lacks=["accept-encoding"])),
    ("the task asks itself", TASK, {"headers": [["accept-encoding", "gzip"]], "path": "/gzip"}, {"coded": "gzip"}),
    ("wasi:http gets the coded bytes", WASI, {"path": "/gzip"}, {"coded": "gzip"}),
    *[(f"coding {name}", TASK, {"path": f"/{name}"}, {"body": OK, "coded": None}) for name in ("gzip", "x-gzip", "deflate", "raw-deflate", "br", "zstd", "two-members", "two-frames", "gzip,br", "deflate,zstd,gzip")],
    ("no coding", TASK, {"path": "/identity"}, {"body": OK}),
    ("a coding that nobody knows", TASK, {"path": "/unknown"}, {"body": OK, "coded": "unknown"}),
    ("a coded HEAD", TASK, {"method": "HEAD", "path": "/gzip"}, {"body": "", "coded": "gzip"}),
    ("an empty body with a coding", TASK, {"path": "/empty"}, {"body": ""}),
    ("a body that is not coded so", TASK, {"path": "/broken"}, {"error": "not valid gzip"}),
    ("a body that is cut", TASK, {"path": "/cut"}, {"error": "not valid gzip"}),
    *[(f"a {name}", TASK, {"path": f"/{name}"}, {"error": "TooLarge"}) for name in ("bomb", "double-bomb", "brotli-bomb", "zstd-bomb")],
    ("a window that is too wide", TASK, {"path": "/wide-window"}, {"error": "not valid zstd"}),
    # ---- Status ----
    *[(f"status {status}", BOTH, {"path": f"/status/{status}"}, {"status": status}) for status in (200, 201, 301, 302, 400, 404, 429, 500, 503)],
    # ---- Kept connections ----
    *[(f"a connection that closes, {i}", BOTH, {"path": "/closes"}, {"status": 200}) for i in range(12)],
    ("before a connection that closes early", BOTH, {"path": "/early"}, {"status": 200}),
    ("safe, so sent again", BOTH, {"path": "/echo?again"}, sends("GET /echo?again HTTP/1.1")),
    # On a busy machine, a request may take another connection, and get its answer.
    *[row for i in range(8) for row in not_safe(i)],
]


def requests(origin, interface):
    for name, interfaces, request, _ in ROWS:
        if interface not in interfaces:
            continue
        request = dict(request)
        user, path, scheme = request.pop("user", None), request.pop("path", "/echo"), request.pop("scheme", "http")
        url = request.pop("url", f"{scheme}://{user + '@' if user else ''}ADDRESS{path}")
        yield {"wasi": interface == "wasi", "url": url.replace("ADDRESS", origin.address), **request}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers to all rows by interface and name. All requests of an interface are one run."""
    folder = tmp_path_factory.mktemp("http")
    origin = Origin()
    shutil.copy(GUESTS / "verbs.wasm", folder)
    (folder / "verbs.toml").write_text(f'allow_hosts = ["http://{origin.address}"]\n')
    found = {}
    for interface in sorted(BOTH):
        params = json.dumps({"verb": "send", "requests": list(requests(origin, interface))})
        done = subprocess.run(
            [BINARIES / "wasq", "run", "verbs.wasm", "--params", params, "--allow-address", "127.0.0.1", "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        names = [name for name, interfaces, *_ in ROWS if interface in interfaces]
        output = json.loads(done.stdout)["output"]
        found |= {(interface, name): answer for name, answer in zip(names, output, strict=True)}
    yield origin.address, found
    origin.close()


@pytest.mark.parametrize("interface", sorted(BOTH))
def test_requests_on_the_wire(answers, interface):
    address, found = answers
    wrong = []
    for name, interfaces, _, expected in ROWS:
        if interface in interfaces:
            answer = found[interface, name]
            wrong += [f"{name}: {problem}; {answer}" for problem in problems(answer, expected, address)]
    assert not wrong, "\n".join(wrong)
    # If such a request was sent again, each would have an answer.
    tried = [found[interface, f"not safe, {i}"] for i in range(8)]
    assert any("connection" in answer.get("error", "") for answer in tried), tried
    assert len(ROWS) >= 100


def problems(answer, expected, address):
    """The differences between an answer and its row."""
    text = json.dumps(answer, ensure_ascii=False)
    if "hides" in expected:
        return [f"shows {expected['hides']}"] if expected["hides"] in text else []
    if "error or answer" in expected:
        return [] if answer.get("status") == 200 or expected["error or answer"] in answer.get("error", "") else ["neither"]
    if "error" in expected:
        return [] if expected["error"] in answer.get("error", "") else [f"no error {expected['error']!r}"]
    if "error" in answer:
        return ["an error"]
    headers = dict(map(tuple, answer["headers"]))
    found = [f"{key} is {answer[key]!r}" for key in ("status", "body") if key in expected and answer[key] != expected[key]]
    if "coded" in expected and headers.get("content-encoding") != expected["coded"]:
        found.append(f"coded {headers.get('content-encoding')}")
    if "line" in expected:
        received = json.loads(answer["body"])
        got = dict(map(tuple, received["headers"]))
        if received["line"] != expected["line"]:
            found.append(f"the line is {received['line']!r}")
        for key, value in expected.get("has", {}).items():
            if got.get(key) != value.replace("ADDRESS", address):
                found.append(f"{key} is {got.get(key)!r}")
        found += [f"has {key}" for key in expected.get("lacks", []) if key in got]
    return found
