"""How a task says that it did not succeed."""

import math


def whole_seconds(seconds: float) -> int:
    """Part of a second counts as one: no sooner than asked. Less than nothing, or no number, is a `ValueError`."""
    if not 0 <= seconds < 2**32:
        raise ValueError(f"{seconds} is no time to wait, in seconds")
    return math.ceil(seconds)


class Failure(Exception):
    """What the exceptions here have in common."""


class Retry(Failure):
    """A passing error: another attempt by the task's retry policy, until its attempts are used up."""


class RetryAfter(Failure):
    """A passing error whose end is known, such as a rate limit: another attempt, no sooner than in so many seconds."""

    def __init__(self, seconds: float, reason: str):
        super().__init__(reason)
        # A header's value is a text; what is no number says so here, and not when it is too late.
        self.seconds = whole_seconds(float(seconds))


class Reject(Failure):
    """This message can never succeed: to the dead-letter queue, with this reason."""
