"""HTTP in one call, to the hosts that the task's `allow_hosts` names. The host connects, does TLS and keeps connections."""

import json as _json
import math
import re as _re
from dataclasses import dataclass
from typing import Any

from .failures import Outside, RetryAfter
from .results import to_json

try:
    from componentize_py_types import Err as _Err
    from wasq_world.imports import http as _host
except ImportError:  # Not in a component.
    _Err = ()
    _host = Outside("wasq_task.http")


# The user and the password in a URL, and what may be a password in a text that is no URL.
_CREDENTIALS = _re.compile(r"^(\s*https?:[/\\]*)[^/?#\\]*@", _re.IGNORECASE)
_PERHAPS_CREDENTIALS = _re.compile(r"^(\s*https?:[/\\]*).*@", _re.IGNORECASE | _re.DOTALL)


class HTTPError(Exception):
    """There is no response, or not the expected one."""


class Denied(HTTPError):
    """The task's `allow_hosts` does not name the address; the text says which entry would."""


@dataclass
class Response:
    """A response, whatever its status. Redirects are not followed."""

    # Without user and password.
    url: str
    status: int
    # Names in lower case, in the order in which they came.
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        return next((value for found, value in self.headers if found == name.lower()), None)

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 become U+FFFD."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body, read as JSON. A byte order mark before it is skipped."""
        try:
            return _json.loads(self.body.removeprefix(b"\xef\xbb\xbf").decode())
        except ValueError as error:
            raise HTTPError(f"{self.url}: the answer is not JSON: {error}") from error

    def success(self) -> "Response":
        """Returns the response itself if its status is 2xx.

        For a busy server (status 429 or 503) it raises `RetryAfter`, with the seconds of its retry-after, or
        60 if that names no time. For any other status it raises an `HTTPError`.
        """
        if 200 <= self.status < 300:
            return self
        if self.status in (429, 503):
            after = self.header("retry-after") or ""
            raise RetryAfter(int(after) if after.isascii() and after.isdecimal() else 60, f"{self.url}: status {self.status}")
        raise HTTPError(f"{self.url}: status {self.status}: {self.text[:200]}")


def request(
    method: str,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    json: Any = None,
    timeout: float | None = None,
) -> Response:
    """Sends a request and waits for the whole response.

    `timeout` is in seconds; the run's own deadline holds as well.
    """
    headers = dict(headers or {})
    if json is not None:
        body = to_json(json)
        if "content-type" not in map(str.lower, headers):
            headers["content-type"] = "application/json"
    if isinstance(body, str):
        body = body.encode()
    # A value of a type that the host does not accept would end the run, and no code could catch that.
    lines = [_host.Header(_text("a header's name", name), _text(name, value)) for name, value in headers.items()]
    method, url = _text("method", method), _text("url", url)
    if body is not None and not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError(f"body: expected bytes or a str, found {body!r}; for a value as JSON there is json=")
    body = None if body is None else bytes(body)
    shown = _CREDENTIALS.sub(r"\1", url)
    try:
        got = _host.send(_host.Request(method, url, lines, body, _milliseconds(timeout)))
    except _Err as error:
        if isinstance(error.value, _host.HttpError_InvalidRequest):
            shown = _PERHAPS_CREDENTIALS.sub(r"\1", url)
        raise _error(shown, error.value) from None
    return Response(shown, got.status, [(header.name, header.value) for header in got.headers], got.body)


def get(url: str, **options) -> Response:
    """A GET; options as for `request`."""
    return request("GET", url, **options)


def post(url: str, **options) -> Response:
    """A POST; options as for `request`."""
    return request("POST", url, **options)


def _text(what, value):
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected a str, found {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise HTTPError(f"{what}: {value!r} is no text: {error.reason}") from error
    return value


def _milliseconds(timeout):
    if timeout is None:
        return None
    milliseconds = timeout * 1000
    if not 0 <= milliseconds < 2**32:
        raise ValueError(f"timeout: {timeout} is no time to wait, in seconds")
    return math.ceil(milliseconds)


def _error(url, error):
    if isinstance(error, _host.HttpError_Denied):
        return Denied(f"{url}: denied: {error.value}")
    if isinstance(error, _host.HttpError_InvalidRequest):
        return HTTPError(f"{url}: not a valid request: {error.value}")
    if isinstance(error, _host.HttpError_Timeout):
        return HTTPError(f"{url}: no answer in time")
    if isinstance(error, _host.HttpError_TooLarge):
        return HTTPError(f"{url}: the answer has more than {error.value} bytes")
    return HTTPError(f"{url}: {error.value}")
