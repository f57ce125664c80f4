// node componentize.mjs TASK WIT OUT [--schema]: a component of a task's module. Run by `wasq build` in the project's folder. With
// --schema, it also prints the schema of the types of a task in TypeScript, behind "wasq:schema ".

import { readFile, writeFile } from "node:fs/promises";
import { SourceMap } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// The packages that are installed in the project or in a folder above it: this file lies in the project's
// folder `build`.
import { componentize, version } from "@bytecodealliance/componentize-js";
import { build } from "esbuild";
import { parseSync } from "oxc-parser";

import { schemasOf } from "./schema.mjs";

const [task, witPath, out, ...options] = process.argv.slice(2);
const sdk = dirname(fileURLToPath(import.meta.url));
const bundle = join(dirname(out), "bundle.js");
const project = process.cwd();

// Names that the engine does not have. The build refuses them in the author's own files, by name. A package may have another
// way when it is not there.
const MISSING = {
  Intl: "use your own formats, or a package that needs no Intl, such as date-fns",
  Buffer: "use Uint8Array, TextEncoder and btoa, or `npm install buffer` and `import { Buffer } from \"buffer\"`",
  process: "for variables of the environment there is `env` of wasq-task",
  setImmediate: "use setTimeout",
  XMLHttpRequest: "use `http` of wasq-task, or fetch",
  WebSocket: "tasks have HTTP only",
  localStorage: "a run keeps nothing; send a child task, or use an HTTP service",
  sessionStorage: "a run keeps nothing; send a child task, or use an HTTP service",
  document: "there is no page",
  window: "for what is global there is globalThis",
};
const NORMAL_FORMS = /^NFK?[CD]$/;

// ---- Unicode properties in regular expressions: the engine has no data for them, Node.js has ----

const CODE_POINT_MAX = 0x10ffff;
const ranges = new Map();

/** The code points with a property such as `L` or `Script=Greek`, as the inside of a character class. */
function rangesOf(property, isNegated) {
  const key = `${isNegated ? "P" : "p"}{${property}}`;
  if (!ranges.has(key)) {
    const pattern = new RegExp(`^\\${key}$`, "u");
    const parts = [];
    let start = -1;
    for (let point = 0; point <= CODE_POINT_MAX + 1; point++) {
      const has = point <= CODE_POINT_MAX && pattern.test(String.fromCodePoint(point));
      if (has && start < 0) start = point;
      if (!has && start >= 0) {
        const [from, to] = [start, point - 1].map((each) => `\\u{${each.toString(16)}}`);
        parts.push(from === to ? from : `${from}-${to}`);
        start = -1;
      }
    }
    ranges.set(key, parts.join(""));
  }
  return ranges.get(key);
}

/** A pattern without `\p{...}` and `\P{...}`. */
function withoutProperties(pattern) {
  let isClass = false;
  return pattern.replace(/\\([pP])\{([^}]*)\}|\\.|[[\]]/gsu, (text, kind, property) => {
    if (text === "[") isClass = true;
    if (text === "]") isClass = false;
    if (!property) return text;
    const inside = rangesOf(property, kind === "P");
    return isClass ? inside : `[${inside}]`;
  });
}

// Expressions whose value, if it is a promise, nobody awaits when they stand alone.
const DROPPED = new Set(["CallExpression", "ChainExpression", "ParenthesizedExpression", "TSNonNullExpression", "LogicalExpression", "ConditionalExpression", "SequenceExpression"]);

/** The names that a pattern declares. */
function namesOf(pattern) {
  switch (pattern?.type) {
    case "Identifier":
      return [pattern.name];
    case "ObjectPattern":
      return pattern.properties.flatMap((property) => namesOf(property.value ?? property));
    case "ArrayPattern":
      return pattern.elements.flatMap(namesOf);
    case "AssignmentPattern":
      return namesOf(pattern.left);
    case "RestElement":
      return namesOf(pattern.argument);
    case "FormalParameters":
      return pattern.items.flatMap((item) => namesOf(item.pattern ?? item));
    case "TSParameterProperty":
      return namesOf(pattern.parameter);
    default:
      return [];
  }
}

/** Looks through a source for what the engine does not have, and for calls whose results are dropped. Returns the source
 * with the first replaced where that is possible, and the second watched; or the errors. */
function examine(path, source) {
  const own = !path.includes("/node_modules/");
  if (!own && !/\\[pP]\{/.test(source)) return source;
  const { program, errors } = parseSync(path, source);
  // esbuild says better what is wrong.
  if (errors.length) return source;
  const problems = [];
  const refuse = (node, what, advice) => {
    const before = source.slice(0, node.start);
    const place = { line: before.split("\n").length, column: node.start - before.lastIndexOf("\n") - 1 };
    problems.push({ text: `tasks in JavaScript do not have ${what}: ${advice}`, location: { file: relative(project, path), ...place, length: node.end - node.start, lineText: source.split("\n")[place.line - 1] } });
  };
  const known = new Set();
  const free = [];
  const edits = [];
  // `new RegExp` with its pattern and its flags written out.
  const propertiesOfRegExp = ({ callee, arguments: [pattern, flags] }) => {
    const isText = typeof pattern?.value === "string" && typeof flags?.value === "string" && callee.name === "RegExp";
    if (isText && /[uv]/.test(flags.value) && /\\[pP]\{/.test(pattern.value)) {
      edits.push({ ...pattern, text: JSON.stringify(withoutProperties(pattern.value)) });
    }
  };
  const visit = (node, parent, key) => {
    if (Array.isArray(node)) return node.forEach((each) => visit(each, parent, key));
    if (!node || typeof node.type !== "string") return;
    switch (node.type) {
      case "Literal":
        if (node.regex && /[uv]/.test(node.regex.flags) && /\\[pP]\{/.test(node.regex.pattern)) {
          edits.push({ ...node, text: `/${withoutProperties(node.regex.pattern)}/${node.regex.flags}` });
        }
        break;
      case "NewExpression":
        propertiesOfRegExp(node);
        break;
      case "Identifier":
        if (own && Object.hasOwn(MISSING, node.name)) free.push({ node, parent, key });
        break;
      case "CallExpression": {
        propertiesOfRegExp(node);
        const [form] = node.arguments;
        if (own && node.callee.type === "MemberExpression" && node.callee.property.name === "normalize" && NORMAL_FORMS.test(form?.value)) {
          refuse(node.callee.property, "normalize", "use the package unorm");
        }
        break;
      }
      case "ExpressionStatement": {
        let dropped = node.expression;
        if (dropped.type === "UnaryExpression" && dropped.operator === "void") dropped = dropped.argument;
        if (own && DROPPED.has(dropped.type) && dropped.callee?.type !== "Super") {
          edits.push({ start: dropped.start, end: dropped.start, text: "__wasqWatch((" }, { start: dropped.end, end: dropped.end, text: "))" });
        }
        break;
      }
      case "VariableDeclarator":
        namesOf(node.id).forEach((name) => known.add(name));
        break;
      case "CatchClause":
        namesOf(node.param).forEach((name) => known.add(name));
        break;
      case "UnaryExpression":
        // A file that asks whether the name is there has another way.
        if (node.operator === "typeof" && node.argument.type === "Identifier") known.add(node.argument.name);
        break;
      default:
        if (node.params) [node.params].flat().forEach((param) => namesOf(param).forEach((name) => known.add(name)));
        if (node.id?.type === "Identifier") known.add(node.id.name);
        if (node.local?.type === "Identifier" && node.type.startsWith("Import")) known.add(node.local.name);
    }
    for (const [name, value] of Object.entries(node)) {
      if (value && typeof value === "object") visit(value, node, name);
    }
  };
  visit(program);
  for (const { node, parent, key } of free) {
    const isName = (parent?.type === "MemberExpression" && key === "property" && !parent.computed) || (key === "key" && !parent.computed && !parent.shorthand);
    const isOutside = key === "imported" || key === "exported";
    const isType = parent?.type?.startsWith("TS") && parent.type !== "TSAsExpression" && parent.type !== "TSNonNullExpression";
    if (!known.has(node.name) && !isName && !isOutside && !isType) refuse(node, node.name, MISSING[node.name]);
  }
  if (problems.length) return { errors: problems };
  // From the last to the first, so that the offsets stay right. Of two at one place, the one that ends something comes first.
  edits.sort((one, other) => other.start - one.start || (one.text === "))" ? 1 : -1));
  return edits.reduce((text, { start, end, text: replacement }) => text.slice(0, start) + replacement + text.slice(end), source);
}

/** The engine's text about an error at the top of a module, with the author's places. */
function inner(message) {
  const text = message.replace(/\n*Error: the `componentize.wizer` function trapped[^]*$/, "")
    .replace(/^Failed to initialize component[^\n]*\n/, "")
    .replace(/\n*Additionally, some promises were rejected[^]*$/, "");
  const places = new SourceMap(JSON.parse(map));
  return (text || message).replace(/\S*bundle\.js:(\d+):(\d+)/g, (there, line, column) => {
    const entry = places.findEntry(line - 1, column - 1);
    if (entry.originalSource?.includes("sdk/javascript/")) return "";
    return entry.originalSource ? `${shown[sources.indexOf(entry.originalSource)]}:${entry.originalLine + 1}:${entry.originalColumn + 1}` : there;
  });
}

const LOADERS = { ".js": "js", ".mjs": "js", ".cjs": "js", ".jsx": "jsx", ".ts": "ts", ".mts": "ts", ".cts": "ts", ".tsx": "tsx" };

const examining = {
  name: "wasq",
  setup(building) {
    building.onLoad({ filter: /\.[mc]?[jt]sx?$/ }, async ({ path }) => {
      if (path.startsWith(sdk)) return undefined;
      const contents = examine(path, await readFile(path, "utf8"));
      return typeof contents === "string" ? { contents, loader: LOADERS[path.slice(path.lastIndexOf("."))] } : contents;
    });
  },
};

let built;
try {
  built = await build({
    entryPoints: [join(sdk, "component.js")],
    outfile: bundle,
    alias: { "wasq-task/the-task": resolve(task), "wasq-task": join(sdk, "index.js") },
    bundle: true,
    format: "esm",
    target: "es2023",
    define: { "process.env.NODE_ENV": '"production"', "import.meta": "__wasqImportMeta" },
    external: ["wasq:*", "wasi:*"],
    plugins: [examining],
    // The engine keeps the text of the sources, and a run takes longer with more of it.
    minifyWhitespace: true,
    sourcemap: "external",
    sourcesContent: false,
    write: false,
    logLevel: "warning",
    // component.js says it better.
    logOverride: { "import-is-undefined": "silent" },
  });
} catch {
  // esbuild has already printed the error and its place.
  process.exit(1);
}
const [map, code] = ["bundle.js.map", "bundle.js"].map((name) => built.outputFiles.find(({ path }) => path.endsWith(name)).text);
const { sources, mappings } = JSON.parse(map);
const shown = sources.map((source) => relative(project, resolve(dirname(bundle), source)));
await writeFile(bundle, `${code}\n__wasqSourceMap(${JSON.stringify({ sources: shown, mappings })});\n`);
let component;
try {
  ({ component } = await componentize({ sourcePath: bundle, witPath, worldName: "wasq:javascript/javascript" }));
} catch (error) {
  const asked = /unknown imported function: '([^']*)' '([^']*)'/.exec(error.message);
  console.error(asked ? `the code at the top of a module calls ${asked[1]} ${asked[2]}, which works in the task's function only` : inner(error.message));
  process.exit(1);
}
await writeFile(out, component);
if (options.includes("--schema")) {
  let schemas;
  try {
    schemas = schemasOf(task, project);
  } catch (error) {
    console.error(`the schema of the types cannot be made: ${error.message}`);
    process.exit(1);
  }
  if (schemas) console.log(`wasq:schema ${JSON.stringify(schemas)}`);
}
console.log(`componentize-js ${version}`);
