//! An order: charges once, and sends one mail, however often it runs.

use serde::{Deserialize, Serialize};
use wasq_task::{Failure, http, step, task};

#[derive(Deserialize)]
struct Params {
    amount: usize,
    #[serde(default)]
    charge: String,
    #[serde(default = "mail")]
    mail: String,
    #[serde(default)]
    tries: u32,
}

fn mail() -> String {
    "mail".to_owned()
}

#[derive(Deserialize, Serialize)]
struct Receipt {
    receipt: String,
}

#[task]
fn order(params: Params) -> Result<Receipt, Failure> {
    if params.charge == "many" {
        for number in 0..params.amount {
            step(&number.to_string(), || Ok(()))?;
        }
        return Ok(Receipt { receipt: params.charge });
    }
    let charge = || step("charge", || charged(&params));
    let receipt = match charge() {
        Err(_) if params.tries > 1 => charge()?,
        charged => charged?,
    };
    step(&params.mail, || {
        http::post("https://mail.example/").json(&receipt).send()?.success()?;
        Ok(true)
    })?;
    Ok(receipt)
}

fn charged(params: &Params) -> Result<Receipt, Failure> {
    if params.charge == "nested" {
        return step("inner", || Ok(Receipt { receipt: String::new() }));
    }
    if params.charge == "large" {
        return Ok(Receipt { receipt: "x".repeat(params.amount) });
    }
    let amount = serde_json::json!({ "amount": params.amount });
    Ok(http::post("https://pay.example/charges").json(&amount).send()?.success()?.json()?)
}
