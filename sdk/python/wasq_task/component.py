"""The component: the function that wasq calls, around the task that `task.py` registers."""

import json
import logging
import sys
import traceback

# The task's own module; it must be loaded while the component is made.
import task as _task_module
from componentize_py_types import Err
from wasq_world.imports import log, outcome

# Used at run time, when it is too late to load it.
import encodings.idna  # noqa: F401

from .failures import Reject, Retry, RetryAfter
from .tasks import call, registered

_registered = registered()
# The host cuts long reasons; the end of a traceback says more than its beginning.
_TRACEBACK_CHARS = 3000


class _Handler(logging.Handler):
    """Passes lines on to the run's log."""

    def emit(self, record):
        levels = ((logging.ERROR, "ERROR"), (logging.WARNING, "WARN"), (logging.INFO, "INFO"), (logging.DEBUG, "DEBUG"))
        name = next((name for level, name in levels if record.levelno >= level), "TRACE")
        log.log(getattr(log.Level, name), _text(self.format(record)))


logging.basicConfig(handlers=[_Handler()], level=logging.NOTSET, format="%(message)s")


class WasqWorld:
    """The world's implementation."""

    def run(self, params: str) -> str:
        """Runs the task once."""
        try:
            result = json.dumps(call(_registered, json.loads(params)), allow_nan=False)
        except Reject as error:
            raise Err(outcome.Failure_Reject(_reason(error))) from None
        except RetryAfter as error:
            raise Err(outcome.Failure_RetryAfter(outcome.RetryAfter(error.seconds, _reason(error)))) from None
        except Retry as error:
            raise Err(outcome.Failure_Retry(_reason(error))) from None
        except Exception as error:
            lines = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARS:]
            raise Err(outcome.Failure_Retry(f"{_reason(error)}\n{_text(lines)}")) from None
        finally:
            sys.stdout.flush()
        return result


def _reason(error: Exception) -> str:
    return _text(str(error)) or type(error).__name__


def _text(text: str) -> str:
    # JSON can contain half a surrogate pair, which is not valid text.
    return text.encode(errors="replace").decode()
