// The packages of npm that tasks use most and that fit: each is imported, and does one real thing.
//
// The rows of HTTP get the answer `{"n":5}` from https://api.example.com/x.

import { sha256 } from "@noble/hashes/sha2.js";
import axios from "axios";
import Big from "big.js";
import BigNumber from "bignumber.js";
import { Buffer } from "buffer/index.js";
import { clsx } from "clsx";
import { addDays, format, parseISO } from "date-fns";
import dayjs from "dayjs";
import utc from "dayjs/plugin/utc.js";
import deepmerge from "deepmerge";
import ejs from "ejs";
import EventEmitter from "eventemitter3";
import equal from "fast-deep-equal";
import { XMLParser } from "fast-xml-parser";
import { gunzipSync, gzipSync, strFromU8, strToU8 } from "fflate";
import { buildSchema, graphqlSync } from "graphql";
import Handlebars from "handlebars/dist/cjs/handlebars.js";
import { produce } from "immer";
import { SignJWT, jwtVerify } from "jose";
import * as yamlJs from "js-yaml";
import ky from "ky";
import lodash from "lodash";
import { chunk } from "lodash-es";
import { marked } from "marked";
import moment from "moment";
import ms from "ms";
import Mustache from "mustache";
import { customAlphabet, nanoid } from "nanoid";
import pLimit from "p-limit";
import pRetry from "p-retry";
import * as pako from "pako";
import Papa from "papaparse";
import qs from "qs";
import * as R from "ramda";
import { firstValueFrom, from, map, toArray } from "rxjs";
import semver from "semver";
import { parse as parseToml } from "smol-toml";
import { __rest } from "tslib";
import { v5, validate } from "uuid";
import * as v from "valibot";
import validator from "validator";
import YAML from "yaml";
import * as yup from "yup";
import { z } from "zod";

const URL_X = "https://api.example.com/x";
const SECRET = new TextEncoder().encode("k".repeat(32));

const ROWS = {
  axios: async () => (await axios.get(URL_X, { adapter: "fetch" })).data,
  ky: async () => await ky.get(URL_X, { retry: 0 }).json(),
  fetch: async () => await (await fetch(URL_X, { method: "POST", body: "{}" })).json(),
  "@noble/hashes": () => [...sha256(new Uint8Array([1]))].slice(0, 4),
  "big.js": () => new Big("0.1").plus("0.2").toString(),
  "bignumber.js": () => new BigNumber("123456789.123").toFormat(2),
  buffer: () => Buffer.from("é").toString("hex"),
  clsx: () => clsx("a", { b: true, c: false }),
  "date-fns": () => format(addDays(parseISO("2024-02-28"), 2), "yyyy-MM-dd EEEE"),
  dayjs: () => dayjs.extend(utc) && dayjs.utc("2024-02-29").add(1, "year").format("YYYY-MM-DD"),
  deepmerge: () => deepmerge({ a: [1] }, { a: [2], b: 1 }),
  ejs: () => ejs.render("<% for (const x of xs) { %><%= x %>;<% } %>", { xs: ["<a>", 2] }),
  eventemitter3: () => { const seen = []; const emitter = new EventEmitter(); emitter.on("x", (n) => seen.push(n)); emitter.emit("x", 3); return seen; },
  "fast-deep-equal": () => equal({ a: [1, { b: 2 }] }, { a: [1, { b: 2 }] }),
  "fast-xml-parser": () => new XMLParser({ ignoreAttributes: false }).parse('<a x="1"><b>2</b></a>'),
  fflate: () => strFromU8(gunzipSync(gzipSync(strToU8("abc".repeat(9))))),
  graphql: () => graphqlSync({ schema: buildSchema("type Query { a: Int }"), source: "{ a }", rootValue: { a: 3 } }).data,
  handlebars: () => Handlebars.compile("{{#each xs}}<{{this}}>{{/each}}")({ xs: ["a&", 2] }),
  immer: () => produce({ a: [1] }, (draft) => { draft.a.push(2); }),
  jose: async () => (await jwtVerify(await new SignJWT({ a: 1 }).setProtectedHeader({ alg: "HS256" }).sign(SECRET), SECRET)).payload,
  "js-yaml": () => yamlJs.load("a: [1, ä]\nb: {c: null}"),
  lodash: () => lodash.groupBy([1.2, 1.8, 2.1], Math.floor),
  "lodash-es": () => chunk([1, 2, 3], 2),
  marked: () => marked.parse("# a\n\n| x |\n|---|\n| 1 |"),
  moment: () => moment.utc("2024-02-29").add(1, "month").format("dddd, MMMM Do YYYY"),
  ms: () => [ms("2 days"), ms(60000)],
  mustache: () => Mustache.render("{{#xs}}{{.}},{{/xs}}", { xs: [1, 2] }),
  nanoid: () => [nanoid().length, /^[ab]{5}$/.test(customAlphabet("ab", 5)())],
  "p-limit": async () => { const limit = pLimit(2); return await Promise.all([1, 2, 3].map((n) => limit(async () => n * 2))); },
  "p-retry": async () => { let tries = 0; return await pRetry(() => { tries += 1; if (tries < 3) throw new Error("no"); return tries; }, { minTimeout: 1 }); },
  pako: () => pako.ungzip(pako.gzip("abc"), { to: "string" }),
  papaparse: () => Papa.parse('a,b\n1,"x,y"', { header: true }).data,
  qs: () => [qs.stringify({ a: [1, 2], b: { c: "é" } }), qs.parse("a[0]=1&b[c]=2")],
  ramda: () => R.pipe(R.filter((n) => n % 2), R.map(R.multiply(2)), R.sum)([1, 2, 3]),
  rxjs: async () => await firstValueFrom(from([1, 2]).pipe(map((n) => n + 1), toArray())),
  semver: () => [semver.satisfies("1.5.0", "^1.2"), semver.inc("1.2.3", "minor")],
  "smol-toml": () => parseToml("[a]\nb = [1, 2]\nc = 'x'"),
  tslib: () => __rest({ a: 1, b: 2 }, ["a"]),
  uuid: () => [v5("x", v5.DNS), validate("x")],
  valibot: () => v.safeParse(v.object({ a: v.pipe(v.string(), v.email()) }), { a: "x" }).success,
  validator: () => [validator.isEmail("a@example.com"), validator.isURL("nonsense"), validator.escape("<a>")],
  yaml: () => YAML.stringify({ a: [1, "ä"], b: { c: null } }),
  yup: () => yup.object({ a: yup.number().positive().required() }).isValidSync({ a: -1 }),
  zod: () => [z.object({ a: z.coerce.number().int(), b: z.enum(["x"]).optional() }).parse({ a: "3" }), z.email().safeParse("x").success],
};

export { ROWS };

export default async function ({ row }) {
  return await ROWS[row]();
}
