// node run-rows.mjs PROJECT [SKIPPED ...]: prints each row's name and value, as Node.js has them.

import { pathToFileURL } from "node:url";

const { ROWS } = await import(pathToFileURL(`${process.argv[2]}/task.js`));
const skipped = process.argv.slice(3);
const values = {};
for (const [row, value] of Object.entries(ROWS)) {
  if (skipped.includes(row)) continue;
  try {
    values[row] = JSON.parse(JSON.stringify(await value()) ?? "null");
  } catch (error) {
    console.error(row, error);
    process.exitCode = 1;
  }
}
console.log(JSON.stringify(values));
