// How many public repositories a GitHub user has.

import { EnqueueError, Reject, RetryAfter, abort, enqueue, env, http, log } from "wasq-task";

interface Params {
  /** A user of GitHub. */
  user: string;
  /** A task that gets the result as its params. */
  then?: string;
}

interface Output {
  user: string;
  repositories: number;
}

export default function githubRepositories({ user, then }: Params): Output {
  if (!/^[A-Za-z0-9-]+$/.test(user)) {
    throw new Reject(`params.user: ${JSON.stringify(user.slice(0, 100))} is no GitHub user name`);
  }
  const repositories = repositoriesOf(user);
  if (repositories < 0) abort(`GitHub counts ${repositories} repositories`);
  log.info(`${user} has ${repositories} public repositories`);

  const result = { user, repositories };
  if (then !== undefined) {
    try {
      enqueue(then, result);
    } catch (error) {
      if (error instanceof EnqueueError) throw new Reject(`params.then: ${error.message}`);
      throw error;
    }
  }
  return result;
}

function repositoriesOf(user: string): number {
  const api = env("GITHUB_API") ?? "https://api.github.com";
  const response = http.get(`${api}/users/${user}`, { timeoutMs: 10_000 });
  if (response.status === 404) throw new Reject(`GitHub does not know the user ${user}`);
  // GitHub reports its rate limit by this status as well.
  if (response.status === 403) throw new RetryAfter(60, "GitHub's rate limit (status 403)");
  return response.success().json().public_repos;
}
