"""A small stand-in for the services around the Lambda binaries, for tests that kill the binaries.

It has Lambda's runtime API and invokes, S3's GET on a folder, and a counter of visits that take up to 0.1 s. It is one
thread, on loopback.

It keeps Lambda's promises and no more: an event is handed to one process, once, and is gone if that process dies. The caller of
a synchronous invoke hears of the death; with all processes busy, it is refused. If the caller disconnects, the process goes on.
"""

import asyncio
import collections
import contextlib
import json
import random
import threading
import time
import uuid
from pathlib import Path


class StandIn:
    """The servers. `visits` counts GETs of /visit/ID by id, `done` the POSTs to /visit/ID/done. `effects` has the idempotency
    keys of these, as a ledger that carries out each key once; `registry` is the folder behind the bucket of that name."""

    def __init__(self, timeouts, registry):
        self.timeouts = timeouts
        self.registry = Path(registry)
        self.visits, self.done = collections.Counter(), collections.Counter()
        self.effects = collections.defaultdict(set)
        self.answers = []
        self.accepted = collections.Counter()
        self.runtime_ports = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def invoke(self, function, payload=b"{}"):
        """An asynchronous invoke, as the scheduler makes it."""
        self._loop.call_soon_threadsafe(self._accept, function, payload)

    def busy(self):
        """Whether synchronous invokes are under way."""
        return bool(self._open)

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self):
        self._events = {name: asyncio.Queue() for name in self.timeouts}
        # Processes that wait for an event, for synchronous invokes: the first of them gets it.
        self._idle = {name: collections.deque() for name in self.timeouts}
        # The futures of synchronous invokes under way, by request id.
        self._open = {}
        server = await asyncio.start_server(self._services, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._servers = [server]
        for name in self.timeouts:
            # A port for each function, because its processes do not say which one they belong to.
            serve = lambda reader, writer, name=name: self._runtime(name, reader, writer)
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.runtime_ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    def _accept(self, function, payload):
        self.accepted[function] += 1
        self._events[function].put_nowait(payload)

    async def _services(self, reader, writer):
        async for method, path, headers, body in requests(reader, writer):
            if path.startswith("/visit/"):
                # A run makes two such requests of up to 0.1 s each. A kill may come before,
                # between or after them.
                name, _, done = path.removeprefix("/visit/").partition("/")
                await asyncio.sleep(random.uniform(0, 0.1))
                # A run that was killed during the wait has not ended.
                if not done or not reader.at_eof():
                    (self.done if done else self.visits)[name] += 1
                    if done:
                        self.effects[name].add(headers["idempotency-key"])
                respond(writer, 200, b"seen")
            elif path.startswith("/2015-03-31/functions/"):
                function = path.split("/")[3]
                if headers.get("x-amz-invocation-type") == "Event":
                    self._accept(function, body)
                    respond(writer, 202)
                elif self._idle[function]:
                    ended = asyncio.get_running_loop().create_future()
                    self._idle[function].popleft().set_result((body, ended))
                    # One connection has one request at a time: nothing else is read meanwhile.
                    error, answer = await ended
                    respond(writer, 200, answer, {"X-Amz-Function-Error": "Unhandled"} if error else {})
                else:
                    refused = {"x-amzn-ErrorType": "TooManyRequestsException", "Content-Type": "application/json"}
                    respond(writer, 429, b'{"Type": "User", "message": "Rate Exceeded."}', refused)
            elif path.startswith("/registry/"):
                # S3's path style: /BUCKET/KEY, and then the SDK's query string.
                file = self.registry / path.removeprefix("/registry/").split("?")[0]
                if file.is_file():
                    respond(writer, 200, file.read_bytes())
                else:
                    respond(writer, 404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
            else:
                respond(writer, 400, f"{method} {path} is not served here".encode())

    async def _runtime(self, function, reader, writer):
        request = None
        try:
            async for method, path, _, body in requests(reader, writer):
                if path.endswith("/invocation/next"):
                    event = await self._next(function, reader)
                    if event is None:
                        return
                    payload, ended = event
                    request = str(uuid.uuid4())
                    if ended:
                        self._open[request] = ended
                    headers = {
                        "Lambda-Runtime-Aws-Request-Id": request,
                        "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeouts[function]) * 1000)),
                        "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:us-east-1:000000000000:function:{function}",
                        "Content-Type": "application/json",
                    }
                    respond(writer, 200, payload, headers)
                elif method == "POST":
                    *_, answered, kind = path.split("/")
                    self.answers.append((function, kind, json.loads(body or b"null")))
                    self._end(answered, kind == "error", body)
                    respond(writer, 202)
                else:
                    respond(writer, 404)
        finally:
            # The process is gone. If it had an event, the caller hears so.
            self._end(request, True, b'{"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited"}')

    def _end(self, request, error, answer):
        ended = self._open.pop(request, None)
        if ended and not ended.done():
            ended.set_result((error, answer))

    async def _next(self, function, reader):
        """The next event and, for a synchronous one, the future of its end; None if the waiting process is gone."""
        queued = asyncio.ensure_future(self._events[function].get())
        direct = asyncio.get_running_loop().create_future()
        gone = asyncio.ensure_future(reader.read(1))
        self._idle[function].append(direct)
        await asyncio.wait({queued, direct, gone}, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(ValueError):
            self._idle[function].remove(direct)
        if direct.done() and queued.done():
            # Both came at once: the other one waits.
            self._events[function].put_nowait(queued.result())
        queued.cancel()
        if gone.done():
            if direct.done():
                direct.result()[1].set_result((True, b'{"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited"}'))
            elif queued.done() and not queued.cancelled():
                self._events[function].put_nowait(queued.result())
            return None
        gone.cancel()
        await asyncio.wait({gone})
        return direct.result() if direct.done() else (queued.result(), None)


async def requests(reader, writer):
    """The requests of one connection: method, path, headers and body."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            yield method, path, headers, body
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def respond(writer, status, body=b"", headers=()):
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in dict(headers).items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
