// The component: the function that wasq calls, around the task's own module.

import task from "wasq-task/the-task";
import { Abort, Reject, Retry, RetryAfter } from "wasq-task";

const U32_MAX = 2 ** 32 - 1;

export async function run(params) {
  try {
    const result = await task(JSON.parse(params));
    // JSON has neither undefined nor functions: if a task returns one of these, its result is null.
    return JSON.stringify(result) ?? "null";
  } catch (error) {
    if (error instanceof Abort) throw error;
    throw failure(error);
  }
}

function failure(error) {
  if (error instanceof Reject) return { tag: "reject", val: text(error.message) };
  if (error instanceof RetryAfter) {
    const seconds = Math.min(Math.max(Math.ceil(error.seconds), 0), U32_MAX);
    return { tag: "retry-after", val: { seconds, reason: text(error.message) } };
  }
  if (error instanceof Retry) return { tag: "retry", val: text(error.message) };
  return { tag: "retry", val: text(told(error)) };
}

// The full text of an error, with its causes. A thrown value need not be an Error.
function told(error, depth = 0) {
  if (!(error instanceof Error)) return `thrown: ${shown(error)}`;
  const causes = [error.cause, ...(error.errors ?? [])].filter((cause) => cause !== undefined && depth < 5);
  const rest = causes.map((cause) => `\ncaused by ${told(cause, depth + 1)}`);
  return `${error.name}: ${error.message}\n${error.stack}${rest.join("")}`;
}

function shown(value) {
  try {
    return (typeof value === "object" && JSON.stringify(value)) || String(value);
  } catch {
    return "something that cannot be shown";
  }
}

// JSON can contain half a surrogate pair, which is not valid text.
function text(reason) {
  return String(reason).toWellFormed();
}
