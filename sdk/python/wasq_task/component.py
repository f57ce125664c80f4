"""The component: the function that wasq calls, around the task that `task.py` registers."""

import inspect
import json
import logging
import sys
import traceback

from . import bundle

bundle.install()

# The task's own module; it must be loaded while the component is made.
try:
    import task as _task_module
except ImportError as error:
    native = bundle.native_cause(error)
    if native is None:
        raise
    raise ModuleNotFoundError(f"import the task: {native}") from None
from componentize_py_types import Err  # noqa: E402
from wasq_world.imports import log, outcome  # noqa: E402

from .failures import Reject, Retry, RetryAfter  # noqa: E402
from .params import caller  # noqa: E402
from .results import to_json  # noqa: E402
from .schema import schemas  # noqa: E402
from .tasks import registered  # noqa: E402

bundle.check_late_imports(_task_module)
_function = registered()
_call = caller(_function)
if inspect.iscoroutinefunction(inspect.unwrap(_function)):
    # A run must not have to load it.
    import asyncio  # noqa: F401
# The host cuts long reasons; the end of a traceback says more than its beginning.
_TRACEBACK_CHARS = 3000


def _set_up_logging():
    """Sends what goes to the console to the run's log, with its level, in the format that the task has chosen."""
    emit = logging.StreamHandler.emit

    def emit_to_log(self, record):
        if self.stream not in (sys.stderr, sys.stdout):
            return emit(self, record)
        levels = ((logging.ERROR, "ERROR"), (logging.WARNING, "WARN"), (logging.INFO, "INFO"), (logging.DEBUG, "DEBUG"))
        name = next((name for level, name in levels if record.levelno >= level), "TRACE")
        try:
            line = self.format(record)
        except Exception:
            return self.handleError(record)
        log.log(getattr(log.Level, name), _text(line))

    logging.StreamHandler.emit = emit_to_log
    # Their debug lines would use up the log of a run. A level that the task has set stays.
    for name in ("asyncio", "boto3", "botocore", "httpcore", "httpx", "requests", "s3transfer", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(logger.level or logging.INFO)
    plain = logging.Formatter("%(message)s")
    # This does nothing if the task has called basicConfig itself. Then its level stays.
    logging.basicConfig(level=logging.NOTSET, format="%(message)s")
    for handler in logging.getLogger().handlers:
        if getattr(handler.formatter, "_fmt", None) == logging.BASIC_FORMAT:
            handler.setFormatter(plain)


_set_up_logging()


class WasqWorld:
    """The world's implementation."""

    def run(self, params: str) -> str:
        """Runs the task once."""
        # A program has a name, and `argparse` asks for it.
        sys.argv[:] = ["task"]
        try:
            result = _call(json.loads(params))
            if inspect.isawaitable(result):
                result = _awaited(result)
            result = to_json(result)
        except Exception as error:
            raise Err(_failure(error)) from None
        finally:
            sys.stdout.flush()
        return result


def _awaited(result):
    import asyncio

    async def wait():
        return await result

    return asyncio.run(wait())


def _failure(error: Exception):
    """The failure that an exception means. In a group, such as that of a TaskGroup, our own exceptions count."""
    for kind in (Reject, RetryAfter, Retry):
        found = error.subgroup(kind) if isinstance(error, BaseExceptionGroup) else error
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if isinstance(found, Reject):
            return outcome.Failure_Reject(_reason(found))
        if isinstance(found, RetryAfter):
            return outcome.Failure_RetryAfter(outcome.RetryAfter(found.seconds, _reason(found)))
        if isinstance(found, Retry):
            return outcome.Failure_Retry(_reason(found))
    lines = "".join(traceback.format_exception(error))
    if len(lines) > _TRACEBACK_CHARS:
        lines = f"...\n{lines[-_TRACEBACK_CHARS:].partition(chr(10))[2]}"
    return outcome.Failure_Retry(f"{_reason(error)}\n{_text(lines)}")


def _reason(error: Exception) -> str:
    return _text(str(error)) or type(error).__name__


def _text(text: str) -> str:
    # JSON can contain half a surrogate pair, which is not valid text.
    return text.encode(errors="replace").decode()


bundle.collect()
# `wasq build` finds it in the component: componentize-py shows nothing of what a task prints while it is loaded.
_schemas = json.dumps(schemas(_function)).encode()
_schemas = b"wasq:schema %d %b" % (len(_schemas), _schemas)
