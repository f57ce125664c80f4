"""HTTP for the libraries that open a socket for it, such as `urllib.request`, `requests` and `httpx`.

A task has no sockets. A library gets one of these instead: it keeps the bytes of a request until the request
is whole, lets the host send it, and then hands out the bytes of the response. The policy is the host's.
"""

import io
import socket as _socket
from http import HTTPStatus

from componentize_py_types import Err
from wasq_world.imports import http as _host

_NOT_HTTP = "a task has no sockets, only HTTP requests: other protocols, such as those of databases, do not work"
# The host frames a message itself, and each of these sockets carries one request.
_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "expect")


class Socket:
    """A stand-in for a TCP connection, and for a TLS connection once `wrap` was called."""

    def __init__(self, family=_socket.AF_INET, type=_socket.SOCK_STREAM, proto=0, fileno=None):
        if type & 0xF != _socket.SOCK_STREAM:
            raise OSError(_NOT_HTTP)
        self.family, self.type, self.proto = family, type, proto
        self._peer = None
        self._tls = False
        self._timeout = None
        self._sent = bytearray()
        self._answer = None

    def wrap(self):
        """The host does TLS, so all that is left is to ask for it."""
        self._tls = True
        return self

    def connect(self, address):
        self._peer = address[:2]

    def connect_ex(self, address):
        self.connect(address)
        return 0

    def bind(self, address):
        if tuple(address[:2]) not in (("", 0), ("0.0.0.0", 0)):
            raise OSError(_NOT_HTTP)

    def listen(self, *_):
        raise OSError(_NOT_HTTP)

    accept = listen

    def sendall(self, data, flags=0):
        self._sent += data

    def send(self, data, flags=0):
        self.sendall(data)
        return len(memoryview(data).cast("B"))

    def recv(self, size, flags=0):
        return self._response().read(size)

    def recv_into(self, buffer, size=0, flags=0):
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view))
        view[: len(data)] = data
        return len(data)

    # The names that the sockets of the module ssl have for the same.
    read, write = recv, send

    def makefile(self, mode="r", buffering=None, **options):
        if "w" in mode:
            return _Writer(self)
        raw = io.BufferedReader(_Reader(self))
        return raw if "b" in mode else io.TextIOWrapper(raw, **options)

    def settimeout(self, timeout):
        self._timeout = timeout

    def gettimeout(self):
        return self._timeout

    def setblocking(self, blocking):
        self._timeout = None if blocking else 0.0

    def getpeername(self):
        return self._peer or ("", 0)

    def getsockname(self):
        return ("0.0.0.0", 0)

    def getsockopt(self, *_):
        return 0

    def setsockopt(self, *_):
        pass

    def fileno(self):
        return -1

    def shutdown(self, how=None):
        pass

    def close(self):
        pass

    def detach(self):
        return -1

    def unwrap(self):
        return self

    def getpeercert(self, binary_form=False):
        return b"" if binary_form else {}

    def version(self):
        return "TLSv1.3"

    def cipher(self):
        return None

    def selected_alpn_protocol(self):
        return "http/1.1" if self._tls else None

    def pending(self):
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _response(self):
        if self._answer is None:
            self._answer = io.BytesIO(self._exchange())
        return self._answer

    def _exchange(self):
        if self._peer is None:
            raise OSError("the socket is not connected")
        head, found, body = bytes(self._sent).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if not found or len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise OSError(_NOT_HTTP)
        method, target, _ = words
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if ":" in line]
        names = {name.lower(): value for name, value in headers}
        if names.get("transfer-encoding", "").lower() == "chunked":
            body = _chunks(body)
        sent = [_host.Header(name, value) for name, value in headers if name.lower() not in _FRAMING]
        timeout = None if self._timeout is None else max(1, int(self._timeout * 1000))
        url = f"{self._origin()}{target}" if target.startswith("/") else target
        self._sent.clear()
        try:
            got = _host.send(_host.Request(method, url, sent, body or None, timeout))
        except Err as error:
            raise _error(error.value) from None
        return _written(method, got)

    def _origin(self):
        host, port = self._peer
        scheme, usual = ("https", 443) if self._tls else ("http", 80)
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}" + ("" if port == usual else f":{port}")


class _Reader(io.RawIOBase):
    def __init__(self, socket):
        self._socket = socket

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._socket.recv_into(buffer)


class _Writer(io.RawIOBase):
    def __init__(self, socket):
        self._socket = socket

    def writable(self):
        return True

    def write(self, data):
        return self._socket.send(data)


def _chunks(body):
    whole = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            break
        whole += rest[:length]
        body = rest[length + 2 :]
    return bytes(whole)


def _written(method, got):
    try:
        phrase = HTTPStatus(got.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {got.status} {phrase}"]
    skipped = ("connection", "transfer-encoding", "keep-alive")
    without_body = method == "HEAD" or got.status in (204, 304) or got.status < 200
    if not without_body:
        skipped += ("content-length",)
        lines.append(f"content-length: {len(got.body)}")
    lines += [f"{header.name}: {header.value}" for header in got.headers if header.name not in skipped]
    lines += ["connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + got.body


def _error(error):
    if isinstance(error, _host.HttpError_Denied):
        return ConnectionRefusedError(f"denied: {error.value}")
    if isinstance(error, _host.HttpError_Timeout):
        return TimeoutError("no answer in time")
    if isinstance(error, _host.HttpError_TooLarge):
        return OSError(f"the answer has more than {error.value} bytes")
    return OSError(error.value)


def _getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    # The host looks names up, so a name is its own address here.
    host = host.decode() if isinstance(host, bytes) else host or "localhost"
    port = {"http": 80, "https": 443}.get(port, port)
    return [(_socket.AF_INET, _socket.SOCK_STREAM, 6, "", (host, int(port or 0)))]


def _create_connection(address, timeout=_socket._GLOBAL_DEFAULT_TIMEOUT, source_address=None, **_):
    made = Socket()
    if timeout is not _socket._GLOBAL_DEFAULT_TIMEOUT:
        made.settimeout(timeout)
    made.connect(address)
    return made


def _none(*_, **__):
    raise OSError(_NOT_HTTP)


def patch(module):
    """Changes the module `socket`."""
    module.socket = module.SocketType = Socket
    module.getaddrinfo = _getaddrinfo
    module.create_connection = _create_connection
    module.gethostbyname = lambda host: host
    module.gethostname = lambda: "localhost"
    module.getfqdn = lambda name="": name or "localhost"
    module.socketpair = module.create_server = module.fromfd = _none


class _Poll:
    """Of the sockets here, each can be written to, and none says that it can be read from before it is."""

    def __init__(self):
        self._registered = {}

    def register(self, fd, eventmask=0):
        self._registered[fd] = eventmask

    modify = register

    def unregister(self, fd):
        del self._registered[fd]

    def poll(self, timeout=None):
        return [(fd, mask & _POLLOUT) for fd, mask in self._registered.items() if mask & _POLLOUT]


_POLLOUT = 4


def patch_select(module):
    """Changes the module `select`."""
    global _POLLOUT
    _POLLOUT = getattr(module, "POLLOUT", _POLLOUT)
    module.poll = _Poll
    module.select = lambda readers, writers, others, timeout=None: ([], list(writers), [])
