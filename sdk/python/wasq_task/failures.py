"""How a task says that it did not succeed."""

import math


def whole_seconds(seconds: float) -> int:
    """Rounds up to whole seconds, so that nothing starts sooner than asked.

    A negative value, or a value that is not a number, is a `ValueError`.
    """
    if not 0 <= seconds < 2**32:
        raise ValueError(f"{seconds} is no time to wait, in seconds")
    return math.ceil(seconds)


class Outside:
    """Stands for the host outside of a run."""

    def __init__(self, what: str):
        self._what = what

    def __getattr__(self, name):
        raise RuntimeError(f"{self._what} works only in a run of wasq; in a test, replace it by a function of your own")


class Failure(Exception):
    """The common base of the exceptions here."""


class Retry(Failure):
    """A temporary error: another attempt by the task's retry policy, until its attempts are used up."""


class RetryAfter(Failure):
    """A temporary error with a known end, such as a rate limit: another attempt after `seconds` or later."""

    def __init__(self, seconds: float, reason: str):
        super().__init__(reason)
        # A header's value is a text. A text that is not a number fails here, not when it is too late.
        self.seconds = whole_seconds(float(seconds))


class Reject(Failure):
    """This message can never succeed: wasq moves it to the dead-letter queue, with this reason."""
