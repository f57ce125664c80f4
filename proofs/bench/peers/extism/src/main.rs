//! `bench-extism PLUGIN.wasm PARAMS CALLS`: first prints the time until the first answer. Then, for each line
//! on stdin, it calls the plug-in CALLS times with a new instance each, and CALLS times with one instance. It
//! prints the microseconds of each call as one line of JSON.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};
use serde_json::json;

fn main() -> Result<()> {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wasm, params, calls] = &arguments[..] else {
        anyhow::bail!("expected: bench-extism PLUGIN.wasm PARAMS CALLS");
    };
    let calls: usize = calls.parse().context("CALLS is no number")?;
    let manifest = Manifest::new([Wasm::data(std::fs::read(wasm).with_context(|| format!("read {wasm}"))?)]);
    let compiled = CompiledPlugin::new(PluginBuilder::new(manifest).with_wasi(true))?;
    let mut reused = Plugin::new_from_compiled(&compiled)?;
    call(&mut reused, params)?;
    println!("{}", json!({ "first_us": micros(started) }));
    for line in std::io::stdin().lines() {
        line?;
        let mut fresh = Vec::with_capacity(calls);
        for _ in 0..calls {
            let started = Instant::now();
            call(&mut Plugin::new_from_compiled(&compiled)?, params)?;
            fresh.push(micros(started));
        }
        let mut again = Vec::with_capacity(calls);
        for _ in 0..calls {
            let started = Instant::now();
            call(&mut reused, params)?;
            again.push(micros(started));
        }
        println!("{}", json!({ "fresh_us": fresh, "reused_us": again }));
    }
    Ok(())
}

fn call(plugin: &mut Plugin, params: &str) -> Result<()> {
    let answer: &str = plugin.call("run", params)?;
    ensure!(answer == "null", "the plug-in answered {answer}");
    Ok(())
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
