// Write tasks for wasq in JavaScript: a function with params in and a result out. index.d.ts explains it.

import { getEnvironment } from "wasi:cli/environment@0.2.0";
import * as hostContext from "wasq:task/context@0.1.2";
import { send } from "wasq:task/http@0.1.2";
import { log as hostLog } from "wasq:task/log@0.1.2";
import { enqueue as hostEnqueue } from "wasq:task/queue@0.1.2";
import { abandon, load, save } from "wasq:task/steps@0.1.2";

import { toJson } from "./json.js";

export class Retry extends Error {
  name = "Retry";
}

export class RetryAfter extends Error {
  name = "RetryAfter";

  constructor(seconds, reason) {
    super(reason);
    this.seconds = seconds;
  }
}

export class Reject extends Error {
  name = "Reject";
}

/** Ends the run as a trap: the component's own wrapper throws it again. */
export class Abort extends Error {
  name = "Abort";
}

export function abort(reason) {
  throw new Abort(reason);
}

export class HttpError extends Error {
  name = "HttpError";

  constructor(kind, message) {
    super(message);
    // Not among the fields that are printed behind a stack.
    Object.defineProperty(this, "kind", { value: kind });
  }
}

export class Response {
  constructor(url, { status, headers, body }) {
    this.url = url;
    this.status = status;
    this.headers = headers.map(({ name, value }) => [name, value]);
    this.body = body;
  }

  header(name) {
    return this.headers.find(([found]) => found === name.toLowerCase())?.[1];
  }

  text() {
    return new TextDecoder().decode(this.body);
  }

  json() {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.body));
    } catch (error) {
      throw new HttpError("unexpected", `${this.url}: the answer is not JSON: ${error.message}`);
    }
  }

  success() {
    const { url, status } = this;
    if (status >= 200 && status < 300) return this;
    if (status === 429 || status === 503) {
      const after = this.header("retry-after") ?? "";
      throw new RetryAfter(/^\d+$/.test(after) ? Number(after) : 60, `${url}: status ${status}`);
    }
    throw new HttpError("unexpected", `${url}: status ${status}: ${this.text().slice(0, 200)}`);
  }
}

export const http = {
  request(method, url, { headers = {}, body, json, timeoutMs } = {}) {
    const lines = headerLines(headers);
    if (json !== undefined) {
      body = toJson(json);
      if (!lines.some(({ name }) => name.toLowerCase() === "content-type")) {
        lines.push({ name: "content-type", value: "application/json" });
      }
    }
    if (typeof body === "string") body = new TextEncoder().encode(body);
    if (body !== undefined && !(body instanceof Uint8Array)) {
      throw new TypeError("body: expected a string or a Uint8Array; for a value as JSON there is `json`");
    }
    url = String(url).toWellFormed();
    const request = { method, url, headers: lines, body, timeoutMs: whole("timeoutMs", timeoutMs) };
    // Messages show the URL without the user and the password in it. Most URLs have none, and a regular expression is compiled in
    // each run that uses it.
    const shown = url.includes("@") ? url.replace(/^(\s*https?:[/\\]*)[^/?#\\]*@/i, "$1") : url;
    try {
      return new Response(shown, send(request));
    } catch (error) {
      // An error without a tag does not come from the host.
      if (error?.payload?.tag === undefined) throw error;
      // In a text that is no URL, everything up to the last @ may be a password.
      const isUrl = error.payload.tag !== "invalid-request";
      throw httpError(isUrl ? shown : url.replace(/^(\s*https?:[/\\]*)[^]*@/i, "$1"), error.payload);
    }
  },
  get: (url, options) => http.request("GET", url, options),
  post: (url, options) => http.request("POST", url, options),
};

// Headers as an object, a Map, `Headers`, or pairs. An array as a value means a line for each element.
function headerLines(headers) {
  if (typeof headers !== "object" || headers === null) throw new TypeError(`headers: expected an object, found ${headers}`);
  const pairs = typeof headers[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers);
  return pairs.flatMap((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2) throw new TypeError("headers: expected pairs of a name and a value");
    const [name, value] = pair;
    return [value].flat().map((each) => {
      if (each === undefined || each === null) throw new TypeError(`headers: ${name} is ${each}`);
      return { name: String(name).toWellFormed(), value: String(each).toWellFormed() };
    });
  });
}

// Returns a whole number from 0 to 2^32 - 1, as the contract requires. It rounds up, so that nothing happens
// sooner than asked.
function whole(what, number) {
  if (number === undefined) return undefined;
  const rounded = Math.ceil(number);
  if (!(rounded >= 0 && rounded < 2 ** 32)) throw new RangeError(`${what}: ${number} is no time to wait`);
  return rounded;
}

function httpError(url, { tag, val }) {
  switch (tag) {
    case "denied":
      return new HttpError(tag, `${url}: denied: ${val}`);
    case "invalid-request":
      return new HttpError("invalid", `${url}: not a valid request: ${val}`);
    case "timeout":
      return new HttpError(tag, `${url}: no answer in time`);
    case "too-large":
      return new HttpError(tag, `${url}: the answer has more than ${val} bytes`);
    default:
      return new HttpError("failed", `${url}: ${val}`);
  }
}

export class EnqueueError extends Error {
  name = "EnqueueError";
}

export function enqueue(task, params = {}, { delaySeconds, id } = {}) {
  const text = toJson(params);
  if (text === undefined) throw new TypeError("params: expected a value that JSON can write");
  const options = { delaySeconds: whole("delaySeconds", delaySeconds), id };
  try {
    return hostEnqueue(String(task).toWellFormed(), text, options);
  } catch (error) {
    // An error without a tag does not come from the host.
    if (error?.payload?.tag === undefined) throw error;
    throw new EnqueueError(`enqueue a child: ${enqueueReason(error.payload)}`);
  }
}

function enqueueReason({ tag, val }) {
  switch (tag) {
    case "invalid":
      return val;
    case "too-many":
      return `this run has sent ${val}, and may send no more`;
    default:
      return `it would have more than ${val} parents above it`;
  }
}

export function step(name, execute) {
  name = String(name).toWellFormed();
  // An attempt that finds the value must return the same kind of thing as one that executes the step.
  const isAsync = Object.prototype.toString.call(execute) === "[object AsyncFunction]";
  return isAsync ? asyncStep(name, execute) : syncStep(name, execute);
}

function syncStep(name, execute) {
  const saved = ask(name, () => load(name));
  if (saved !== undefined) return JSON.parse(saved);
  try {
    const value = execute();
    if (typeof value?.then === "function") {
      Promise.resolve(value).catch(() => {});
      throw new Reject(`step ${JSON.stringify(name)}: pass an async function, not a function that returns a promise`);
    }
    return store(name, value);
  } catch (error) {
    abandon(name);
    throw error;
  }
}

async function asyncStep(name, execute) {
  const saved = ask(name, () => load(name));
  if (saved !== undefined) return JSON.parse(saved);
  try {
    return store(name, await execute());
  } catch (error) {
    abandon(name);
    throw error;
  }
}

function store(name, value) {
  let text;
  try {
    // JSON has neither undefined nor functions.
    text = toJson(value) ?? "null";
  } catch (error) {
    throw new Reject(`step ${JSON.stringify(name)}: its value is no JSON: ${error.message}`);
  }
  ask(name, () => save(name, text));
  return JSON.parse(text);
}

function ask(name, call) {
  try {
    return call();
  } catch (error) {
    // An error without a tag does not come from the host.
    if (error?.payload?.tag === undefined) throw error;
    const { tag, val } = error.payload;
    if (tag === "unavailable") throw new Retry(val);
    if (tag === "too-many") throw new Reject(`step ${JSON.stringify(name)}: this message has saved ${val} steps, and may save no more`);
    throw new Reject(val);
  }
}

export const context = {
  id: () => hostContext.id(),
  task: () => hostContext.task(),
  attempt: () => hostContext.attempt(),
  maxAttempts: () => hostContext.maxAttempts(),
  deadline: () => new Date(Number(hostContext.deadline())),
  parent: () => hostContext.parent(),
  root: () => hostContext.root(),
  depth: () => hostContext.depth(),
  traceparent: () => hostContext.traceparent(),
};

export function env(name) {
  return getEnvironment().find(([found]) => found === name)?.[1];
}

const line = (level) => (message) => hostLog(level, String(message).toWellFormed());

export const log = {
  trace: line("trace"),
  debug: line("debug"),
  info: line("info"),
  warn: line("warn"),
  error: line("error"),
};
