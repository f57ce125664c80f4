"""An event loop for a task: `asyncio` without sockets and threads."""

import asyncio
import selectors
import time
from asyncio import selector_events

_NO_THREADS = "a task has no threads; call the function itself"


class _Timer(selectors.BaseSelector):
    """There is nothing to select from, so this only waits."""

    def register(self, fileobj, events, data=None):
        raise OSError("a task has no sockets")

    def unregister(self, fileobj):
        raise KeyError(fileobj)

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("the task waits for something that cannot happen any more")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def get_map(self):
        return {}


class EventLoop(selector_events.BaseSelectorEventLoop):
    """Runs coroutines one beside the other, in one thread."""

    def __init__(self):
        super().__init__(_Timer())

    def _make_self_pipe(self):
        self._ssock = self._csock = None

    def _close_self_pipe(self):
        pass

    def _write_to_self(self):
        pass

    def run_in_executor(self, executor, func, *args):
        raise RuntimeError(_NO_THREADS)

    async def create_connection(self, *_, **__):
        raise OSError("a task has no asynchronous connections; use wasq_task.http")

    async def shutdown_default_executor(self, timeout=None):
        pass


def patch(module):
    """Changes the module `asyncio`."""
    module.new_event_loop = module.events.new_event_loop = EventLoop
    module.runners.events.new_event_loop = EventLoop
