// The expectations of JavaScript's authors: one row for each thing. The test runs each row here and in Node.js, and compares.

const TEXT = "Grüße, 世界 😀";

const raised = (action) => {
  try {
    action();
  } catch (error) {
    return error.name;
  }
  return null;
};

class Point {
  #x;
  static made = 0;
  static {
    this.made += 1;
  }
  constructor(x) {
    this.#x = x;
  }
  get x() {
    return this.#x;
  }
  static is(value) {
    return #x in value;
  }
}

async function* counted(n) {
  for (let i = 0; i < n; i++) yield i;
}

const ROWS = {
  // ---- Language ----
  classes: () => [new Point(3).x, Point.made, Point.is(new Point(1)), raised(() => Point.prototype.x)],
  destructuring: () => (({ a, ...rest }, [first, ...others]) => [a, rest, first, others])({ a: 1, b: 2 }, [1, 2, 3]),
  "optional chaining": () => [null?.a, undefined?.[0], ({}).f?.(), null ?? "x"],
  "logical assignment": () => { let a = null; a ??= 1; a ||= 2; a &&= 3; return a; },
  generators: () => [...(function* () { const got = yield 1; yield* [2, got]; })()].length,
  "async generators": async () => { const seen = []; for await (const n of counted(3)) seen.push(n); return seen; },
  "tagged templates": () => ((strings, ...values) => [strings.raw.join("|"), values])`a${1}\n${2}`,
  labels: () => { outer: for (let i = 0; ; i++) for (;;) if (i > 2) break outer; else continue outer; return "out"; },
  symbols: () => [Symbol("a").description, Symbol.for("b") === Symbol.for("b"), `${Object(Symbol.iterator).toString()}`],
  "numeric separators": () => [1_000_000, 0b101, 0o17, 0xff, 2 ** 10],
  bigint: () => [(2n ** 70n).toString(), BigInt.asUintN(8, 257n).toString(), raised(() => 1n + 1)],
  proxy: () => new Proxy({}, { get: (_, name) => `got ${String(name)}` }).anything,
  reflect: () => [Reflect.ownKeys({ b: 1, a: 2, 1: 3 }), Reflect.has({ a: 1 }, "a")],
  "error cause": () => new Error("a", { cause: "b" }).cause,
  "aggregate error": () => new AggregateError([new Error("a")], "all").errors.length,
  "finally": () => { const seen = []; try { seen.push(1); throw 1; } catch { seen.push(2); } finally { seen.push(3); } return seen; },
  "weak references": () => [new WeakRef(ROWS).deref() === ROWS, new WeakMap([[ROWS, 1]]).get(ROWS)],
  eval: () => new Function("a", "return a + 1")(1),
  // ---- Text ----
  "string methods": () => ["abc".at(-1), "a-b-c".replaceAll("-", "+"), "x".padStart(3, "ab"), "abc".includes("b"), " a ".trim()],
  "string unicode": () => [[...TEXT].length, TEXT.length, TEXT.codePointAt(11), String.fromCodePoint(128512)],
  "well formed": () => ["\ud800".isWellFormed(), "\ud800a".toWellFormed()],
  "case": () => ["STRASSE".toLowerCase(), "straße".toUpperCase(), "ÄÖ".toLowerCase()],
  "locale compare": () => ["b", "a", "c"].sort((a, b) => a.localeCompare(b)),
  raw: () => String.raw`a\n${1}`,
  "regex named": () => "2024-03-01".match(/(?<y>\d+)-(?<m>\d+)/).groups.m,
  "regex lookbehind": () => "a1b2".replace(/(?<=[a-z])\d/g, "#"),
  "regex sticky": () => { const pattern = /a/y; pattern.lastIndex = 1; return pattern.test("ba"); },
  "regex unicode": () => /^.$/u.test("😀"),
  "regex matchAll": () => [..."a1b22".matchAll(/\d+/g)].map((match) => [match[0], match.index]),
  "regex indices": () => /a(b)/d.exec("xab").indices[1],
  "regex dotAll": () => /a.b/s.test("a\nb"),
  split: () => "a1b2c".split(/(\d)/),
  escape: () => [encodeURIComponent("é &"), decodeURIComponent("%C3%A9"), encodeURI("https://a.test/é?q=1"), raised(() => decodeURIComponent("%"))],
  base64: () => [btoa("abc"), atob("YWJj"), raised(() => btoa("é"))],
  encoder: () => [...new TextEncoder().encode("é€")],
  decoder: () => [new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61])), new TextDecoder().decode(new Uint8Array([0xff, 0x61]))],
  "decoder fatal": () => raised(() => new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff]))),
  // ---- Numbers and dates ----
  number: () => [Number("0x1f"), Number(""), Number("1e1000"), parseInt("12px"), parseFloat("1.5e3x"), (0.1 + 0.2).toFixed(10), (255).toString(16), (1234.5678).toPrecision(6), Number.MAX_SAFE_INTEGER],
  "number checks": () => [Number.isInteger(5.0), Number.isSafeInteger(2 ** 53), Number.EPSILON > 0, Object.is(-0, 0)],
  math: () => [Math.hypot(3, 4), Math.trunc(-1.5), Math.sign(-3), Math.clz32(1), Math.fround(5.5), Math.cbrt(27), Math.log2(8), Math.imul(3, 4)],
  "date iso": () => [new Date(0).toISOString(), new Date("2024-02-29T12:00:00+02:00").toISOString(), Date.UTC(2024, 1, 29), new Date("nonsense").getTime()],
  "date parts": () => [new Date("2024-02-29T12:00:00Z").getUTCDay(), new Date(Date.UTC(2024, 0, 31)).setUTCMonth(1)],
  "date now": () => Date.now() > 1.7e12 && performance.now() >= 0,
  "date json": () => JSON.stringify({ at: new Date(0) }),
  // ---- Collections ----
  arrays: () => [[3, 1, 2].toSorted(), [1, 2, 3].toReversed(), [1, 2, 3].with(1, 9), [1, 2, 3, 4].toSpliced(1, 2), [1, [2, [3]]].flat(Infinity), [1, 2, 3].findLast((n) => n < 3), [1, 2, 3].at(-1), Array.from({ length: 3 }, (_, i) => i)],
  "array sort": () => [10, 9, 1].sort().concat([10, 9, 1].sort((a, b) => a - b)),
  "array copyWithin": () => [1, 2, 3, 4].copyWithin(0, 2),
  "array group": () => [Object.groupBy([1, 2, 3], (n) => (n % 2 ? "odd" : "even")), [...Map.groupBy([1, 2], (n) => n % 2).keys()]],
  "array fromAsync": async () => await Array.fromAsync(counted(3)),
  maps: () => [...new Map([["a", 1], ["b", 2]]).entries()],
  sets: () => [[...new Set([1, 2, 2])], [...new Set([1, 2]).union(new Set([3]))], [...new Set([1, 2]).intersection(new Set([2]))]],
  objects: () => [Object.entries({ b: 1, a: 2 }), Object.fromEntries([["x", 1]]), Object.assign({}, null, { a: 1 }), Object.hasOwn({ a: 1 }, "a")],
  "object order": () => Object.keys({ b: 1, 2: 1, a: 1, 1: 1 }),
  frozen: () => raised(() => { Object.freeze([1]).push(2); }),
  accessors: () => Object.getOwnPropertyDescriptor({ get a() { return 1; } }, "a").get(),
  iterators: () => [1, 2, 3, 4].values().filter((n) => n % 2).map((n) => n * 2).toArray(),
  "typed arrays": () => [[...new Uint8Array([1, 300])], [...new Float64Array([1.5])], new Uint8Array([1, 2, 3]).subarray(1).length, [...new Uint8Array(new Uint16Array([258]).buffer)]],
  dataview: () => { const view = new DataView(new ArrayBuffer(8)); view.setFloat32(0, 1.5); view.setBigInt64(0, -1n, true); return [view.getUint8(0), view.getInt16(2)]; },
  "array buffer": () => [new ArrayBuffer(8, { maxByteLength: 16 }).resizable, new ArrayBuffer(4).slice(1).byteLength],
  // ---- JSON ----
  json: () => JSON.parse(JSON.stringify({ a: [1.5, null, true, TEXT], u: undefined, f() {}, n: NaN })),
  "json indent": () => JSON.stringify({ b: 1, a: [1] }, null, 2),
  "json replacer": () => JSON.stringify({ a: 1, b: "x" }, (key, value) => (typeof value === "number" ? value + 1 : value)),
  "json reviver": () => JSON.parse('{"a":"2024"}', (key, value) => (key === "a" ? Number(value) : value)),
  "json error": () => raised(() => JSON.parse("{]")),
  "json toJSON": () => JSON.stringify({ toJSON: () => "mine" }),
  "json bigint": () => raised(() => JSON.stringify(1n)),
  "json circular": () => { const a = {}; a.a = a; return raised(() => JSON.stringify(a)); },
  "json surrogates": () => JSON.stringify("\ud800"),
  "json deep": () => JSON.parse("[".repeat(500) + "]".repeat(500)).length,
  structuredClone: () => { const copy = structuredClone({ a: new Date(0), m: new Map([[1, new Set([2])]]), b: new Uint8Array([1]) }); return [copy.a.getTime(), [...copy.m.get(1)], [...copy.b]]; },
  // ---- Promises and timers ----
  promises: async () => [await Promise.all([1, Promise.resolve(2)]), (await Promise.allSettled([Promise.reject(1)]))[0].status, await Promise.any([Promise.reject(1), 2]), await Promise.race([3, new Promise(() => {})])],
  "promise order": async () => { const seen = []; queueMicrotask(() => seen.push("micro")); setTimeout(() => seen.push("timer")); await null; seen.push("await"); await new Promise((resolve) => setTimeout(resolve, 5)); return seen; },
  "promise resolvers": async () => { const { promise, resolve } = Promise.withResolvers(); setTimeout(resolve, 1, "late"); return await promise; },
  "promise finally": async () => { const seen = []; await Promise.reject(1).catch((e) => seen.push(e)).finally(() => seen.push("f")); return seen; },
  timers: async () => { const seen = []; const id = setTimeout(() => seen.push("no"), 1); clearTimeout(id); await new Promise((resolve) => { const every = setInterval(() => { seen.push("i"); if (seen.length === 3) { clearInterval(every); resolve(); } }, 1); }); return seen; },
  "await thenable": async () => await { then: (resolve) => resolve("thenable") },
  // ---- The web's ----
  url: () => { const url = new URL("../b?q=é#x", "https://me:p@a.test:8080/c/d"); return [url.href, url.host, url.origin, url.searchParams.get("q"), URL.canParse("nonsense")]; },
  "url idna": () => new URL("https://bücher.example/ü").href,
  "url params": () => { const params = new URLSearchParams("a=1&a=2&b=%C3%A9+x"); params.append("c", "&"); params.sort(); return [params.getAll("a"), params.get("b"), String(params), params.size]; },
  headers: () => { const headers = new Headers({ "X-A": "1" }); headers.append("x-a", "2"); return [headers.get("x-a"), [...headers.keys()], headers.has("X-a")]; },
  "headers invalid": () => raised(() => new Headers({ "a b": "1" })),
  response: async () => { const response = new Response("é", { status: 201, headers: { a: "b" } }); return [response.status, response.ok, await response.clone().text(), (await response.arrayBuffer()).byteLength]; },
  "response json": async () => await new Response('{"a":1}').json(),
  "response not utf-8": async () => await new Response(new Uint8Array([0xff, 0x61])).text(),
  request: async () => { const request = new Request("https://a.test/", { method: "POST", body: "x" }); return [request.method, request.url, await request.text()]; },
  "abort controller": () => { const controller = new AbortController(); controller.abort("why"); return [controller.signal.aborted, controller.signal.reason]; },
  events: () => { const target = new EventTarget(); const seen = []; target.addEventListener("x", (event) => seen.push(event.type)); target.dispatchEvent(new Event("x")); return seen; },
  blob: async () => [await new Blob(["a", "é"]).text(), new Blob(["abc"]).size],
  "form data": () => { const form = new FormData(); form.append("a", "1"); return [...form.entries()]; },
  streams: async () => { const stream = new ReadableStream({ start(controller) { controller.enqueue("a"); controller.enqueue("b"); controller.close(); } }); const seen = []; const reader = stream.getReader(); for (;;) { const { done, value } = await reader.read(); if (done) return seen; seen.push(value); } },
  compression: async () => await new Response(new Response("abc".repeat(50)).body.pipeThrough(new CompressionStream("gzip")).pipeThrough(new DecompressionStream("gzip"))).text(),
  "dom exception": () => new DOMException("m", "AbortError").name,
  "random values": () => crypto.getRandomValues(new Uint8Array(8)).some((byte) => byte > 0),
  "random uuid": () => /^[0-9a-f-]{36}$/.test(crypto.randomUUID()) && crypto.randomUUID() !== crypto.randomUUID(),
  digest: async () => [...new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("x")))].slice(0, 4),
  hmac: async () => { const key = await crypto.subtle.importKey("raw", new TextEncoder().encode("k"), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]); return [...new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode("m")))].slice(0, 4); },
  // ---- Modules ----
  "dynamic import": async () => (await import("./part.js")).value,
  "json import": async () => (await import("./data.json")).default.n,
  "import meta": () => typeof import.meta,
};

export { ROWS };

export default async function ({ row }) {
  return await ROWS[row]();
}
