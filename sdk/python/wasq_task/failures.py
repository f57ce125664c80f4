"""How a task says that it did not succeed."""


class Failure(Exception):
    """What the exceptions here have in common."""


class Retry(Failure):
    """A passing error: another attempt by the task's retry policy, until its attempts are used up."""


class RetryAfter(Failure):
    """A passing error whose end is known, such as a rate limit: another attempt, no sooner than in so many seconds."""

    def __init__(self, seconds: float, reason: str):
        super().__init__(reason)
        self.seconds = seconds


class Reject(Failure):
    """This message can never succeed: to the dead-letter queue, with this reason."""
