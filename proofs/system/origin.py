"""An HTTP server that parses as strictly as the RFCs, by the library h11. It answers with what it has received.

A path that begins with `/CODINGS` answers in these codings, such as `/gzip` or `/deflate,gzip`; `/closes` closes the
connection after the answer without a word, and `/early` does so when the next request comes in.
"""

import gzip
import json
import socket
import threading
import zlib

import brotli
import h11
import zstandard

PLAIN = b'{"n": 5}'
CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw-deflate": lambda data: zlib.compress(data)[2:-4],
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": lambda data: data,
    "unknown": lambda data: data,
    "broken": lambda data: b"\x1f\x8b" + data,
    "cut": lambda data: gzip.compress(data)[:-6],
    "two-members": lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:]),
    "two-frames": lambda data: zstandard.compress(data[:3]) + b"\x50\x2a\x4d\x18\x02\x00\x00\x00xx" + zstandard.compress(data[3:]),
    "empty": lambda data: b"",
    "bomb": lambda data: gzip.compress(bytes(64 << 20)),
    "double-bomb": lambda data: gzip.compress(gzip.compress(bytes(256 << 20))),
    "brotli-bomb": lambda data: brotli.compress(bytes(64 << 20), quality=3),
    "zstd-bomb": lambda data: zstandard.compress(bytes(64 << 20)),
    # A frame that asks for a window of 2 GiB.
    "wide-window": lambda data: b"\x28\xb5\x2f\xfd\x00\xa8\x41\x00\x00" + data,
}
NAMES = {
    "raw-deflate": "deflate",
    "broken": "gzip",
    "cut": "gzip",
    "two-members": "gzip",
    "two-frames": "zstd",
    "empty": "gzip",
    "bomb": "gzip",
    "double-bomb": "gzip, gzip",
    "brotli-bomb": "br",
    "zstd-bomb": "zstd",
    "wide-window": "zstd",
}


class Origin:
    """Listens on a free port of the loopback interface until it is closed."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.bombs = {}
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def close(self):
        """Ends the thread that accepts before it closes the socket. The system gives the number of a closed socket to the
        next one, and a thread that still waits with that number can take a connection of another server."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        parser = h11.Connection(h11.SERVER)
        with connection:
            try:
                while self.one(connection, parser):
                    parser.start_next_cycle()
            except (OSError, h11.LocalProtocolError):
                pass

    def one(self, connection, parser):
        raw, body = b"", b""
        request = None
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                answer = f"HTTP/1.1 {error.error_status_hint} Bad\r\ncontent-length: 0\r\nx-why: {error}\r\n\r\n"
                connection.sendall(answer.encode())
                return False
            if event is h11.NEED_DATA:
                data = connection.recv(65536)
                raw += data
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        return self.answer(connection, parser, request, raw, body)

    def answer(self, connection, parser, request, raw, body):
        target = request.target.decode("latin-1")
        headers = [("content-type", "application/json")]
        path = target.split("?")[0][1:]
        if path.startswith("status/"):
            status, data = int(path.removeprefix("status/")), b"x"
        elif path and path.split(",")[0] in CODINGS:
            status, data = 200, self.coded(path)
            names = [NAMES.get(name, name) for name in path.split(",")]
            headers.append(("content-encoding", ", ".join(names)))
        else:
            status = 200
            line = raw.split(b"\r\n")[0].decode("latin-1")
            got = [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw_items()]
            got = [(name.lower(), value) for name, value in got]
            data = json.dumps({"line": line, "headers": got, "body": body.decode("latin-1")}).encode()
        if request.method == b"HEAD":
            headers.append(("content-length", str(len(data))))
            data = b""
        else:
            headers.append(("content-length", str(len(data))))
        connection.sendall(parser.send(h11.Response(status_code=status, headers=headers)))
        connection.sendall((parser.send(h11.Data(data=data)) or b"") + (parser.send(h11.EndOfMessage()) or b""))
        if path == "early":
            # Waits for the next request, and then closes without an answer.
            connection.recv(1)
            return False
        return path != "closes"

    def coded(self, path):
        if path not in self.bombs:
            data = PLAIN
            for name in path.split(","):
                data = CODINGS[name](data)
            self.bombs[path] = data
        return self.bombs[path]
