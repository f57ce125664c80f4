// The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.

import { Reject, log } from "wasq-task";

interface Params {
  /** Who is greeted. */
  name: string;
}

export default function greet({ name }: Params): { greeting: string } {
  if (name === "") throw new Reject("params.name is empty");
  log.info(`greeting ${name}`);
  return { greeting: `Hello, ${name}!` };
}
