// An order: charges once, and sends one mail, however often it runs. With async functions, as authors of TypeScript write them.

import { http, step } from "wasq-task";

interface Params {
  amount: number;
  charge?: string;
  mail?: string;
  tries?: number;
}

interface Receipt {
  receipt: string;
}

export default async function order({ amount, charge = "", mail = "mail", tries = 1 }: Params): Promise<Receipt> {
  const charged = async (): Promise<Receipt> => {
    if (charge === "nested") return step("inner", async () => ({ receipt: "" }));
    if (charge === "large") return { receipt: "x".repeat(amount) };
    await null;
    return http.post("https://pay.example/charges", { json: { amount } }).success().json();
  };
  if (charge === "many") {
    for (let number = 0; number < amount; number++) await step(String(number), async () => {});
    return { receipt: charge };
  }
  const receipt: Receipt = await step("charge", charged).catch((error: unknown) => {
    if (tries < 2) throw error;
    return step("charge", charged);
  });
  const sent: boolean = await step(mail, async () => {
    http.post("https://mail.example/", { json: receipt }).success();
    return true;
  });
  if (!sent) throw new Error("a step has its value");
  return receipt;
}
