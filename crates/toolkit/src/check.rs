//! The facts about a component that are known before it runs.

use std::time::{Duration, Instant};

use anyhow::Result;
use wasmparser::Parser;
use wasq_engine::{Engine, LoadError, made_with};
use wasq_protocol::{ByteCount, Settings};

use crate::contract::Contract;

/// The result of a component's check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The reasons why it does not fit, with advice; empty if it can be published.
    pub problems: Vec<String>,
    /// The languages and tools that made it, as it names them itself, such as `C`, `zig 0.17.1`.
    pub made_with: Vec<String>,
    /// The component's imports.
    pub imports: Vec<Import>,
    /// The component's size in bytes.
    pub bytes: u64,
    /// The component's memory at its start, in bytes.
    pub initial_memory: u64,
    /// The size of its machine code in bytes, and the time to compile it; `None` if it cannot be compiled.
    pub compiled: Option<(u64, Duration)>,
}

/// An import, and its limits at run time.
#[derive(Clone, Debug)]
pub struct Import {
    /// Such as `wasi:http/outgoing-handler@0.2.10`.
    pub name: String,
    /// The limits of the import at run time, if it has any.
    pub limits: Option<&'static str>,
    /// Whether its use is denied altogether.
    pub denied: bool,
}

/// Checks a component, and compiles it as the publisher would.
pub fn check(engine: &Engine, wasm: &[u8], settings: &Settings) -> Result<Checked> {
    let started = Instant::now();
    let compiled = engine.compile(wasm);
    let took = started.elapsed();
    let mut checked = Checked {
        problems: Vec::new(),
        made_with: Vec::new(),
        imports: Vec::new(),
        bytes: wasm.len() as u64,
        initial_memory: 0,
        compiled: compiled.as_ref().ok().map(|artifact| (artifact.len() as u64, took)),
    };
    // A file that is not a component has no types to look at.
    if let Err(problem @ LoadError::NoComponent(_)) = &compiled {
        checked.problems.push(problem.to_string());
        return Ok(checked);
    }
    match Contract::of(wasm) {
        Ok(contract) => {
            checked.problems = contract.problems;
            checked.imports = contract.imports.into_iter().map(import).collect();
            checked.made_with = made_with(wasm);
            checked.initial_memory = initial_memory(wasm)?;
        }
        Err(e) if compiled.is_ok() => checked.problems.push(format!("{e:#}")),
        Err(_) => {}
    }
    if let Err(problem) = compiled
        && checked.problems.is_empty()
    {
        checked.problems.push(problem.to_string());
    }
    let memory = settings.memory;
    if checked.initial_memory > memory.0 {
        checked.problems.push(format!(
            "it starts with {}, more than its settings allow (memory = \"{memory}\"): no run of it can begin",
            ByteCount(checked.initial_memory)
        ));
    }
    Ok(checked)
}

fn import(name: String) -> Import {
    let interface = name.split('@').next().unwrap_or_default();
    let limits = match interface {
        "wasq:task/http" | "wasi:http/outgoing-handler" => Some("to the hosts that its allow_hosts names"),
        "wasi:cli/environment" => Some("what its settings have in [env] and [secrets], and no arguments"),
        "wasi:cli/stdin" => Some("empty"),
        "wasi:cli/exit" => Some("ends the run as a trap"),
        _ if interface.starts_with("wasi:cli/terminal") => Some("there is none"),
        _ if interface.starts_with("wasi:filesystem/") => Some("a task has no files"),
        _ if interface.starts_with("wasi:sockets/") => Some("a task has no sockets"),
        _ => None,
    };
    let denied = interface.starts_with("wasi:filesystem/") || interface.starts_with("wasi:sockets/");
    Import { name, limits, denied }
}

/// The memory of all modules of a component, as they declare it, in bytes.
pub fn initial_memory(wasm: &[u8]) -> Result<u64> {
    const PAGE: u64 = 64 << 10;
    let mut pages = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let wasmparser::Payload::MemorySection(memories) = payload? {
            for memory in memories {
                pages += memory?.initial;
            }
        }
    }
    Ok(pages * PAGE)
}
