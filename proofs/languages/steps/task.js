// An order: charges once, and sends one mail, however often it runs.

import { http, step } from "wasq-task";

export default function order({ amount, charge = "", mail = "mail", tries = 1 }) {
  const charged = () => {
    if (charge === "nested") return step("inner", () => ({}));
    if (charge === "large") return { receipt: "x".repeat(amount) };
    return http.post("https://pay.example/charges", { json: { amount } }).success().json();
  };
  if (charge === "many") {
    for (let number = 0; number < amount; number++) step(number, () => {});
    return { receipt: charge };
  }
  let receipt;
  try {
    receipt = step("charge", charged);
  } catch (error) {
    if (tries < 2) throw error;
    receipt = step("charge", charged);
  }
  step(mail, () => {
    http.post("https://mail.example/", { json: receipt }).success();
    return true;
  });
  return receipt;
}
