// node componentize.mjs TASK WIT OUT: a component of a task's module. Run by `wasq build` in the project's folder.

import { writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// The packages that are installed in the project or in a folder above it: this file lies in the project's
// folder `build`.
import { componentize, version } from "@bytecodealliance/componentize-js";
import { build } from "esbuild";

const [task, witPath, out] = process.argv.slice(2);
const sdk = dirname(fileURLToPath(import.meta.url));
const bundle = join(dirname(out), "bundle.js");

try {
  await build({
    entryPoints: [join(sdk, "component.js")],
    outfile: bundle,
    alias: { "wasq-task/the-task": resolve(task), "wasq-task": join(sdk, "index.js") },
    bundle: true,
    format: "esm",
    target: "es2023",
    external: ["wasq:*", "wasi:*"],
    logLevel: "warning",
  });
} catch {
  // esbuild has already printed the error and its place.
  process.exit(1);
}
const { component } = await componentize({ sourcePath: bundle, witPath, worldName: "wasq:javascript/javascript" });
await writeFile(out, component);
console.log(`componentize-js ${version}`);
