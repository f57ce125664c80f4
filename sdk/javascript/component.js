// The component: what wasq calls, around the task's own module.

import task from "wasq-task/the-task";
import { Abort, Reject, Retry, RetryAfter } from "wasq-task";

const U32_MAX = 2 ** 32 - 1;

export async function run(params) {
  try {
    const result = await task(JSON.parse(params));
    // JSON has neither undefined nor functions: a task that returns such has no result.
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
  if (error instanceof Error) return { tag: "retry", val: text(`${error.name}: ${error.message}\n${error.stack}`) };
  return { tag: "retry", val: text(`thrown: ${String(error)}`) };
}

// Half a surrogate pair, as JSON can have it, is no text.
function text(reason) {
  return String(reason).toWellFormed();
}
