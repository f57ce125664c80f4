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
 * `wasq build` makes a component of a module `task.js` or `task.ts` with such a function as its default
 * export. The function gets the message's params as they are, and may be `async`. `JSON.stringify` must be
 * able to write its result. After any thrown error the message gets another attempt by the task's retry
 * policy, with the error's message and stack as the reason. The error classes here have other meanings.
 */

/** A temporary error: another attempt by the task's retry policy, until its attempts are used up. */
export class Retry extends Error {}

/**
 * A temporary error with a known end, such as a rate limit: another attempt after this number of seconds or
 * later.
 */
export class RetryAfter extends Error {
  constructor(seconds: number, reason: string);
  readonly seconds: number;
}

/** This message can never succeed: wasq moves it to the dead-letter queue, with this reason. */
export class Reject extends Error {}

/** Ends the run at once, as a trap, for a state that is impossible. wasq treats it like `Retry`. */
export function abort(reason: string): never;

/** The error if there is no response, or not the expected one. */
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
  /** The body as text; bytes that are not UTF-8 become U+FFFD. */
  text(): string;
  /** The body, read as JSON. */
  json(): any;
  /**
   * Returns the response itself if its status is 2xx. For a busy server (status 429 or 503) it throws a
   * `RetryAfter`, with the seconds of its retry-after, or 60 if that names no time. For any other status it
   * throws an `HttpError`.
   */
  success(): this;
}

export interface RequestOptions {
  /** As an object, a Map, `Headers` or pairs. An array as a value means a line for each element. */
  headers?: Record<string, string | readonly string[]> | Iterable<readonly [string, string]> | Headers;
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
 * The child runs no sooner than `delaySeconds` from now (up to 366 days). Without an `id`, one is derived from
 * the parent's id, so that a parent that runs twice sends the same id.
 */
export function enqueue(task: string, params?: unknown, options?: { delaySeconds?: number; id?: string }): string;

/**
 * Executes a step, unless an earlier attempt of this message has saved it: then it returns the saved value.
 *
 *     const receipt = step("charge", () => http.post(url, { json: charge }).success().json());
 *
 * With an async function, `await step("charge", async () => ...)`. A function that is not async and returns a promise is refused. The value is what JSON makes of it, in every attempt, and it is
 * stored before the step ends. After an error the step is not saved, and may be executed again. Steps run one after the other, and a
 * name is used once in a run. The run can end between the effect of a step and the moment in which its value is stored. So let a step
 * do one thing that is safe to repeat: the header `idempotency-key` of its requests is the same in every attempt.
 *
 * A step that breaks a limit is a `Reject`.
 */
export function step<T>(name: string, execute: () => Promise<T>): Promise<T>;
export function step<T>(name: string, execute: () => T): T;

/** Information about the run in progress. */
export const context: {
  /** The message's id, the same in every attempt: the key for work that must not be done twice. */
  id(): string;
  /** The name under which this task was called. */
  task(): string;
  /** The number of this attempt; the first is 1. */
  attempt(): number;
  maxAttempts(): number;
  /** The time at which wasq ends this run. */
  deadline(): Date;
  /** The id of the message whose task enqueued this one, if one did. */
  parent(): string | undefined;
  /** The id at the top of the chain of parents. */
  root(): string;
  /** The number of parents above this message. */
  depth(): number;
  /** The W3C trace context that came with the message, if one did. */
  traceparent(): string | undefined;
};

/** A value of the task's settings, from their table `[env]`. */
export function env(name: string): string | undefined;

/** Lines of the run's log. Lines that `console` prints arrive there as well. */
export const log: Record<"trace" | "debug" | "info" | "warn" | "error", (message: string) => void>;
