// The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.

import { Reject, log } from "wasq-task";

interface Params {
  name: string;
}

export default function greet({ name }: Params): { greeting: string } {
  // Types are gone at run time.
  if (typeof name !== "string" || name === "") throw new Reject("params.name: expected a name");
  log.info(`greeting ${name}`);
  return { greeting: `Hello, ${name}!` };
}
