/**
 * Write tasks for wasq in JavaScript or TypeScript: a function with params in and a result out.
 *
 *     import { Reject, http } from "wasq-task";
 *
 *     export default function repositories({ user }) {
 *       if (typeof user !== "string") throw new Reject("params.user: expected a string");
 *       const answer = http.get(`https://api.github.com/users/${user}`).success().json();
 *       return { user, repositories: answer.public_repos };
 *     }
 *
 * `wasq build` makes a component of a module `task.js` or `task.ts` with such a function as its default export. It gets the message's
 * params as they are, and may be `async`. What it returns must be what `JSON.stringify` can write. Any error that it throws is
 * another attempt by the task's retry policy, with its message and stack as the reason; the classes here say otherwise.
 */

/** A passing error: another attempt by the task's retry policy, until its attempts are used up. */
export class Retry extends Error {}

/** A passing error whose end is known, such as a rate limit: another attempt, no sooner than in so many seconds. */
export class RetryAfter extends Error {
  constructor(seconds: number, reason: string);
  readonly seconds: number;
}

/** This message can never succeed: to the dead-letter queue, with this reason. */
export class Reject extends Error {}

/** Ends the run at once, as a trap: for what cannot be. Treated like `Retry`. */
export function abort(reason: string): never;

/** Why there is no response, or not the one that was expected. */
export class HttpError extends Error {
  readonly kind: "denied" | "invalid" | "timeout" | "too-large" | "failed" | "unexpected";
}

/** A response, whatever its status. Redirects are not followed. */
export class Response {
  readonly url: string;
  readonly status: number;
  /** Names in lower case, in the order in which they came. */
  readonly headers: [name: string, value: string][];
  readonly body: Uint8Array;
  /** The first header of a name, in any case. */
  header(name: string): string | undefined;
  /** The body as text; what is no UTF-8 becomes U+FFFD. */
  text(): string;
  /** The body, read as JSON. */
  json(): any;
  /**
   * The response itself if its status is 2xx. A server that is busy (429 or 503) is a `RetryAfter` what its retry-after says, or
   * a minute; any other status is an `HttpError`.
   */
  success(): this;
}

export interface RequestOptions {
  headers?: Record<string, string>;
  body?: Uint8Array | string;
  /** A body as JSON, with its content type. */
  json?: unknown;
  /** How long to wait for the whole response, in milliseconds; the run's own deadline holds as well. */
  timeoutMs?: number;
}

/** HTTP in one call, to the hosts that the task's `allow_hosts` names. (`fetch` works as well, and takes longer.) */
export const http: {
  request(method: string, url: string, options?: RequestOptions): Response;
  get(url: string, options?: RequestOptions): Response;
  post(url: string, options?: RequestOptions): Response;
};

/** A child was not accepted; the message says why. */
export class EnqueueError extends Error {}

/**
 * Enqueues a message for a task, and returns its id. Children are sent when this run has succeeded, and dropped if it does not.
 *
 * It runs no sooner than `delaySeconds` from now (up to 3 days). Without an `id`, one is derived from the parent's, so that a
 * parent that runs twice sends the same.
 */
export function enqueue(task: string, params?: unknown, options?: { delaySeconds?: number; id?: string }): string;

/** What is known about the run in progress. */
export const context: {
  /** The message's id, the same in every attempt: the key for work that must not be done twice. */
  id(): string;
  /** The name under which this task was called. */
  task(): string;
  /** Which attempt this is; the first is 1. */
  attempt(): number;
  maxAttempts(): number;
  /** When this run will be ended. */
  deadline(): Date;
  /** The id of the message whose task enqueued this one, if one did. */
  parent(): string | undefined;
  /** The id at the top of the chain of parents. */
  root(): string;
  /** How many parents are above. */
  depth(): number;
  /** The W3C trace context that came with the message, if one did. */
  traceparent(): string | undefined;
};

/** A value of the task's settings, from their table `[env]`. */
export function env(name: string): string | undefined;

/** Lines of the run's log. What `console` prints arrives there as well. */
export const log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: string) => void>;
