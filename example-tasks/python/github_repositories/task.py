"""How many public repositories a GitHub user has."""

import logging
import os
import re
from typing import TypedDict

from wasq_task import EnqueueError, Reject, RetryAfter, enqueue, http, task


class Output(TypedDict):
    user: str
    repositories: int


@task
def github_repositories(user: str, then: str | None = None) -> Output:
    """How many public repositories a GitHub user has.

    Args:
        user: A user of GitHub.
        then: A task that gets the result as its params.
    """
    if not re.fullmatch("[A-Za-z0-9-]+", user):
        raise Reject(f"params.user: {user[:100]!r} is no GitHub user name")
    api = os.environ.get("GITHUB_API", "https://api.github.com")
    response = http.get(f"{api}/users/{user}", timeout=10)
    if response.status == 404:
        raise Reject(f"GitHub does not know the user {user}")
    if response.status == 403:  # GitHub reports its rate limit by this status as well.
        raise RetryAfter(60, "GitHub's rate limit (status 403)")
    repositories = response.success().json()["public_repos"]
    if repositories < 0:
        raise SystemExit(f"GitHub counts {repositories} repositories")
    logging.info("%s has %s public repositories", user, repositories)
    result: Output = {"user": user, "repositories": repositories}
    if then is not None:
        try:
            enqueue(then, result)
        except EnqueueError as error:
            raise Reject(f"params.then: {error}") from error
    return result
