// The globals of a task, set before its own module is loaded: a console with levels, stacks that name the author's files, and
// clear errors where the engine has less than the standards.

import { log } from "wasq:task/log@0.1.2";

// ---- Stacks ----

const BUNDLE = /^(.*)@(?:.*\/)?bundle\.js:(\d+):(\d+)$/;
/** Equal frames of a stack that are shown, as in a recursion without an end. */
const EQUAL_FRAMES_MAX = 3;
let sourceMap;

// The build calls this at the end of the bundle.
globalThis.__wasqSourceMap = (map) => {
  sourceMap = map;
};

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
// The pieces of the lines that were asked for: [column, source, line, column] each, counted from 0.
const known = new Map();

// Decodes the map up to the last of these lines of the bundle, and keeps the pieces of these only: a whole map is large.
function decode(lines) {
  const wanted = new Set(lines.filter((line) => !known.has(line)));
  if (!wanted.size || !sourceMap) return;
  const last = Math.max(...wanted);
  const { mappings } = sourceMap;
  let at = 0, generated = 0, source = 0, line = 0, column = 0;
  const number = () => {
    let value = 0, shift = 0, bits;
    do {
      bits = BASE64.indexOf(mappings[at++]);
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    return value & 1 ? -(value >>> 1) : value >>> 1;
  };
  const isEnd = () => at >= mappings.length || mappings[at] === "," || mappings[at] === ";";
  for (let current = 1; current <= last && at <= mappings.length; current++) {
    const pieces = wanted.has(current) ? [] : undefined;
    generated = 0;
    while (at < mappings.length && mappings[at] !== ";") {
      generated += number();
      if (!isEnd()) {
        source += number();
        line += number();
        column += number();
        pieces?.push([generated, source, line, column]);
      }
      if (!isEnd()) number();
      if (mappings[at] === ",") at++;
    }
    at++;
    if (pieces) known.set(current, pieces);
  }
}

function place(line, column) {
  const pieces = known.get(line) ?? [];
  const piece = pieces.findLast(([start]) => start <= column - 1) ?? pieces[0];
  return piece && { source: sourceMap.sources[piece[1]], line: piece[2] + 1, column: piece[3] + 1 };
}

// The stack as the author knows it: without the frames of wasq and of the engine.
function mapped(stack) {
  const lines = [];
  const frames = String(stack).split("\n").map((frame) => ({ frame, match: BUNDLE.exec(frame) }));
  decode(frames.flatMap(({ match }) => (match ? [Number(match[2])] : [])));
  for (const { frame, match } of frames) {
    if (!match) {
      // The engine's own frames lie in a temporary folder.
      if (frame && !frame.includes("/sources/initializer.js")) lines.push(`    at ${frame}`);
      continue;
    }
    const [, name, line, column] = match;
    const found = place(Number(line), Number(column));
    if (found?.source.includes("sdk/javascript/")) continue;
    const where = found ? `${found.source}:${found.line}:${found.column}` : `bundle.js:${line}:${column}`;
    lines.push(name ? `    at ${name} (${where})` : `    at ${where}`);
  }
  return withoutRepetition(lines).join("\n");
}

function withoutRepetition(lines) {
  const shown = [];
  let equal = 0;
  const end = () => {
    if (equal > EQUAL_FRAMES_MAX) shown.push(`    ... ${equal - EQUAL_FRAMES_MAX} more like this`);
  };
  lines.forEach((line, i) => {
    if (line !== lines[i - 1]) {
      end();
      equal = 0;
    }
    equal += 1;
    if (equal <= EQUAL_FRAMES_MAX) shown.push(line);
  });
  end();
  return shown;
}

const engineStack = Object.getOwnPropertyDescriptor(Error.prototype, "stack");
Object.defineProperty(Error.prototype, "stack", {
  ...engineStack,
  get() {
    const stack = engineStack.get.call(this);
    if (typeof stack !== "string") return stack;
    return `${headline(this)}\n${mapped(stack)}`.trimEnd();
  },
});

function headline(error) {
  try {
    return Error.prototype.toString.call(error);
  } catch {
    return "Error";
  }
}

// ---- The full text of an error ----

const CAUSES_MAX = 5;

/** The full text of anything that was thrown, with its causes. It never throws itself. */
export function told(error, depth = 0) {
  try {
    if (!(error instanceof Error)) return `thrown: ${inspect(error)}`;
    const causes = depth < CAUSES_MAX ? [error.cause, ...listed(error.errors)].filter((cause) => cause !== undefined) : [];
    const others = Object.keys(error).filter((key) => !["name", "message", "cause", "errors"].includes(key));
    const fields = others.length ? ` ${inspect(Object.fromEntries(others.map((key) => [key, error[key]])))}` : "";
    const rest = causes.map((cause) => `\ncaused by ${told(cause, depth + 1)}`);
    const odd = error.errors !== undefined && !Array.isArray(error.errors) ? `\nerrors: ${inspect(error.errors)}` : "";
    return `${stackOf(error)}${fields}${odd}${rest.join("")}`;
  } catch (problem) {
    return `an error that cannot be shown (${headline(problem)})`;
  }
}

function stackOf(error) {
  const text = headline(error);
  const stack = error.stack;
  if (typeof stack !== "string" || !stack) return text;
  // A library may have set its own stack, or captured one of the engine's.
  const own = stack.startsWith(text) ? stack : `${text}\n${stack}`;
  return own.includes("bundle.js:") ? `${text}\n${mapped(own.slice(text.length).trim())}` : own;
}

const listed = (errors) => (Array.isArray(errors) ? errors : []);

// ---- Console ----

const DEPTH_MAX = 4;
const ELEMENTS_MAX = 100;

/** A value as text, for people. */
export function inspect(value, depth = 0, seen = []) {
  switch (typeof value) {
    case "string":
      return depth === 0 ? value : JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return value.toString();
    case "function":
      return `[${value.toString().startsWith("class") ? "class" : "Function"} ${value.name || "(anonymous)"}]`;
    case "object":
      break;
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
  if (value === null) return "null";
  if (seen.includes(value)) return "[Circular]";
  if (value instanceof Error) return depth === 0 ? told(value) : headline(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp || value instanceof URL) return String(value);
  if (value instanceof Promise) return "Promise";
  const inner = (element) => inspect(element, depth + 1, [...seen, value]);
  const cut = (all) => (all.length > ELEMENTS_MAX ? [...all.slice(0, ELEMENTS_MAX), `... ${all.length - ELEMENTS_MAX} more`] : all);
  const name = value.constructor?.name;
  if (depth > DEPTH_MAX) return Array.isArray(value) ? "[Array]" : `[${name ?? "Object"}]`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const elements = Array.from(value.length > ELEMENTS_MAX + 1 ? value.slice(0, ELEMENTS_MAX + 1) : value, inner);
    const more = value.length > elements.length ? [`... ${value.length - elements.length} more`] : [];
    const prefix = Array.isArray(value) ? "" : `${name}(${value.length}) `;
    return `${prefix}[${["", [...elements, ...more].join(", "), ""].join(elements.length ? " " : "")}]`;
  }
  if (value instanceof Map) return `Map(${value.size}) {${cut([...value].map(([key, each]) => ` ${inner(key)} => ${inner(each)}`)).join(",")} }`;
  if (value instanceof Set) return `Set(${value.size}) {${cut([...value].map((each) => ` ${inner(each)}`)).join(",")} }`;
  if (typeof Headers !== "undefined" && value instanceof Headers) return `Headers ${inspect(Object.fromEntries(value), depth, seen)}`;
  const members = Object.keys(value).map((key) => `${/^[\w$]+$/.test(key) ? key : JSON.stringify(key)}: ${inner(value[key])}`);
  const prefix = name && name !== "Object" ? `${name} ` : Object.getPrototypeOf(value) === null ? "[Object: null prototype] " : "";
  return `${prefix}{${members.length ? ` ${cut(members).join(", ")} ` : ""}}`;
}

// A line as `console` formats it: a text with %s and so on, and the other arguments after it.
function formatted(args) {
  let rest = args;
  let text = "";
  if (typeof args[0] === "string" && args.length > 1) {
    rest = args.slice(1);
    text = args[0].replace(/%[sdifjoOc%]/g, (mark) => {
      if (mark === "%%") return "%";
      if (!rest.length) return mark;
      const value = rest.shift();
      switch (mark) {
        case "%s":
          return typeof value === "object" && value !== null ? inspect(value, 1) : inspect(value);
        case "%d":
        case "%f":
          return String(typeof value === "object" ? NaN : Number(value));
        case "%i":
          return String(typeof value === "object" ? NaN : Math.trunc(Number(value)));
        case "%j":
          return JSON.stringify(value);
        case "%c":
          return "";
        default:
          return inspect(value, 1);
      }
    });
    rest = [text, ...rest];
  }
  return rest.map((value) => guarded(() => inspect(value))).join(" ");
}

function guarded(show) {
  try {
    return show();
  } catch {
    return "[something that cannot be shown]";
  }
}

const engineConsole = globalThis.console;
let indent = "";
const counts = new Map();
const timers = new Map();
let running = false;

/** Lines that are written while the component is built go to the build; later ones go to the run's log. */
export function begin() {
  running = true;
}

function write(level, args) {
  const text = guarded(() => formatted(args)).toWellFormed().replaceAll("\n", `\n${indent}`);
  if (running) log(level, indent + text);
  else engineConsole.log(indent + text);
}

const at = (level) => (...args) => write(level, args);

globalThis.console = Object.assign(Object.create(engineConsole), {
  log: at("info"),
  info: at("info"),
  warn: at("warn"),
  error: at("error"),
  debug: at("debug"),
  dir: (value) => write("info", [value]),
  dirxml: at("info"),
  table: (value) => write("info", [value]),
  trace: (...args) => write("debug", [`Trace: ${formatted(args)}\n${new Error().stack.split("\n").slice(1).join("\n")}`]),
  assert(condition, ...args) {
    if (!condition) write("error", ["Assertion failed", ...args]);
  },
  group(...args) {
    if (args.length) write("info", args);
    indent += "  ";
  },
  groupCollapsed: (...args) => console.group(...args),
  groupEnd() {
    indent = indent.slice(2);
  },
  count(label = "default") {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    write("info", [`${label}: ${counts.get(label)}`]);
  },
  countReset: (label = "default") => void counts.delete(label),
  time: (label = "default") => void timers.set(label, performance.now()),
  timeLog(label = "default", ...args) {
    write("info", [`${label}: ${(performance.now() - timers.get(label)).toFixed(3)}ms`, ...args]);
  },
  timeEnd(label = "default") {
    console.timeLog(label);
    timers.delete(label);
  },
});

// ---- Random numbers while the component is built ----

// The engine cannot ask for random numbers then, and what it got would be the same in every run.
const engineRandom = Math.random;
let state = 0x2545f491;
Math.random = function random() {
  if (running) return engineRandom();
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
};
for (const name of ["getRandomValues", "randomUUID"]) {
  const original = crypto[name].bind(crypto);
  crypto[name] = (...args) => {
    if (running) return original(...args);
    throw new Error(`crypto.${name} cannot run while the component is built: call it in the task's function`);
  };
}

// ---- Promises that nobody awaits ----

const unhandled = [];
let watched = 0;

// The build puts this around every call of the author's whose result is dropped.
globalThis.__wasqWatch = (value) => {
  if (value instanceof Promise) {
    watched += 1;
    value.then(undefined, (error) => unhandled.push(error));
  }
  return value;
};

/** The rejections of promises that nobody awaits, so far. */
export async function rejections() {
  // A promise that is already rejected tells it in the next turns of the queue.
  if (watched > 0) await new Promise((resolve) => setTimeout(resolve, 0));
  return unhandled.splice(0);
}

// ---- Where the engine has less than the standards ----

function needsIntl(prototype, name) {
  const original = prototype[name];
  prototype[name] = function (...args) {
    if (args.some((each) => each !== undefined)) {
      throw new TypeError(`${name} with a locale or options needs Intl, which tasks in JavaScript do not have`);
    }
    return original.call(this);
  };
}

for (const name of ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"]) needsIntl(Date.prototype, name);
for (const { prototype } of [Number, BigInt, Array]) needsIntl(prototype, "toLocaleString");

// The engine refuses a body that is not UTF-8; the standard replaces what is wrong by U+FFFD. And it has no clone.
const copied = new WeakMap();
for (const { prototype } of [Response, Request]) {
  const arrayBuffer = prototype.arrayBuffer;
  Object.assign(prototype, {
    async arrayBuffer() {
      const copy = copied.get(this);
      return copy ? (await copy).slice(0) : await arrayBuffer.call(this);
    },
    async bytes() {
      return new Uint8Array(await this.arrayBuffer());
    },
    async blob() {
      return new Blob([await this.arrayBuffer()], { type: this.headers.get("content-type") ?? "" });
    },
    async text() {
      return new TextDecoder().decode(await this.arrayBuffer());
    },
    async json() {
      return JSON.parse(await this.text());
    },
  });
}
Response.prototype.clone ??= function () {
  if (this.bodyUsed && !copied.has(this)) throw new TypeError("Response.clone: the body was read already");
  const copy = copied.get(this) ?? (this.body ? this.arrayBuffer() : Promise.resolve(new ArrayBuffer(0)));
  copied.set(this, copy);
  const { status, statusText, headers } = this;
  const clone = new Response(null, { status, statusText, headers });
  copied.set(clone, copy);
  Object.defineProperty(clone, "url", { value: this.url });
  return clone;
};

URL.canParse ??= (url, base) => {
  try {
    return Boolean(new URL(url, base));
  } catch {
    return false;
  }
};

// The engine ends at `import.meta`. The build puts this in its place.
globalThis.__wasqImportMeta = { url: "file:///task.js" };

const engineFetch = globalThis.fetch;
globalThis.fetch = async function fetch(input, init) {
  const url = new URL(input instanceof Request ? input.url : input);
  if (url.username || url.password) {
    throw new TypeError(`fetch: the URL of ${url.host} has a user or a password; send them in the header authorization`);
  }
  try {
    return await engineFetch(input, init);
  } catch (error) {
    // The engine does not know why; the host has written it into the run's log. Other errors say what is wrong.
    if (!(error instanceof TypeError) || !error.message.startsWith("NetworkError")) throw error;
    throw new TypeError(`fetch ${url.origin}${url.pathname}: no response; the run's log says why`, { cause: error });
  }
};
