"""Write tasks for wasq in Python: a function with params in and a result out.

    from wasq_task import Reject, http, task

    @task
    def repositories(user: str):
        if not user:
            raise Reject("params.user is empty")
        answer = http.get(f"https://api.github.com/users/{user}").success().json()
        return {"user": user, "repositories": answer["public_repos"]}

`wasq build` makes a component of a module `task.py` with one such function in it.

- The message's params are the function's arguments. Params that do not fit its annotations are rejected
  before it is called. A function with a parameter `params`, without an annotation, gets them as they are.
  `json` must be able to write the function's result.
- After any exception the message gets another attempt by the task's retry policy, with its message and
  traceback as the reason. `Retry` does the same without a traceback. `RetryAfter` sets the shortest time
  before the next attempt. `Reject` moves the message to the dead-letter queue. Leaving the interpreter
  (`sys.exit`) ends the run as a trap.
- `http` reaches the hosts that the task's `allow_hosts` names. `enqueue` sends child tasks when the task has
  succeeded. `step` is a part of the task that a later attempt does not execute again. `context` has the message's id, the attempt and the deadline. Lines of `logging` and
  printed lines go to the run's log.
"""

from . import context, http
from .failures import Reject, Retry, RetryAfter
from .queue import EnqueueError, enqueue
from .steps import step
from .tasks import task

__all__ = ["EnqueueError", "Reject", "Retry", "RetryAfter", "context", "enqueue", "http", "step", "task"]
