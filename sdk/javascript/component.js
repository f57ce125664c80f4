// The component: the function that wasq calls, around the task's own module.

import { begin, rejections, told } from "./setup.js";
import * as module from "wasq-task/the-task";
import { Abort, Reject, Retry, RetryAfter } from "wasq-task";
import { toJson } from "./json.js";

const task = module.default;
if (typeof task !== "function") {
  throw new TypeError("the task's file needs a default export that is a function, such as `export default function run(params) { ... }`");
}

const U32_MAX = 2 ** 32 - 1;

export async function run(params) {
  begin();
  try {
    const result = await task(JSON.parse(params));
    const [rejected] = await rejections();
    if (rejected !== undefined) throw rejected;
    // JSON has neither undefined nor functions: if a task returns one of these, its result is null.
    return toJson(result) ?? "null";
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

// JSON can contain half a surrogate pair, which is not valid text. A message need not be a text at all.
function text(reason) {
  try {
    return String(reason).toWellFormed();
  } catch {
    return "a reason that is no text";
  }
}
