//! The one place where wasmtime is configured.
//!
//! [`CompileOptions`] has the options that decide how code is compiled, and the fingerprint contains their
//! hash. It does not contain the options that only concern running the code (the allocator). So a worker may
//! size its pool without making artifacts stale.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Result};
use wasq_protocol::{ByteCount, Digest, Fingerprint};

/// The version of wasmtime that this crate is pinned to; a test compares it with `Cargo.lock`.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Every option that changes the machine code, and thereby the fingerprint.
#[derive(Debug)]
struct CompileOptions {
    /// Without a target, the compiler would use every feature of the publisher's CPU. The worker's CPU may
    /// lack some.
    target: &'static str,
    /// The CPU features that every worker is assumed to have. x86-64: the features of all Lambda machines
    /// (x86-64-v3). arm64: atomics, which Graviton2 and later have.
    #[cfg_attr(not(feature = "compiler"), allow(dead_code))]
    cpu: &'static [&'static str],
    /// A run that computes must yield to its neighbours and to its own timeout.
    epoch_interruption: bool,
    /// Deep recursion traps at 1 MiB; interpreters need more than the default of 512 KiB.
    max_wasm_stack: usize,
    /// 64-bit memories have no guard pages, so each access is checked: slow, and no toolchain needs them.
    wasm_memory64: bool,
}

/// A platform that machine code is compiled for.
#[derive(Clone, Copy)]
pub struct Platform {
    arch: &'static str,
    os: &'static str,
    target: &'static str,
    cpu: &'static [&'static str],
}

impl Platform {
    /// Linux on x86-64.
    pub const LINUX_X86_64: Self =
        Self { arch: "x86_64", os: "linux", target: "x86_64-unknown-linux-gnu", cpu: X86_64 };
    /// Linux on arm64.
    pub const LINUX_ARM64: Self =
        Self { arch: "aarch64", os: "linux", target: "aarch64-unknown-linux-gnu", cpu: ARM64 };
    /// macOS on x86-64.
    pub const MACOS_X86_64: Self =
        Self { arch: "x86_64", os: "macos", target: "x86_64-apple-darwin", cpu: X86_64 };
    /// macOS on arm64.
    pub const MACOS_ARM64: Self =
        Self { arch: "aarch64", os: "macos", target: "aarch64-apple-darwin", cpu: ARM64 };

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    const HOST: Self = Self::LINUX_X86_64;
    #[cfg(all(target_arch = "aarch64", target_os = "linux"))]
    const HOST: Self = Self::LINUX_ARM64;
    #[cfg(all(target_arch = "x86_64", target_os = "macos"))]
    const HOST: Self = Self::MACOS_X86_64;
    #[cfg(all(target_arch = "aarch64", target_os = "macos"))]
    const HOST: Self = Self::MACOS_ARM64;

    const fn options(self) -> CompileOptions {
        CompileOptions {
            target: self.target,
            cpu: self.cpu,
            epoch_interruption: true,
            max_wasm_stack: 1 << 20,
            wasm_memory64: false,
        }
    }

    /// The fingerprint of the artifacts that this build compiles for the platform. It names the wasmtime
    /// version, the CPU target and the engine configuration.
    pub fn fingerprint(self) -> Fingerprint {
        let Self { arch, os, .. } = self;
        let options = Digest::of(format!("{:?}", self.options()).as_bytes()).short();
        Fingerprint(format!("{WASMTIME_VERSION}-{arch}-{os}-{options}"))
    }
}

const X86_64: &[&str] = &[
    "has_sse3",
    "has_ssse3",
    "has_sse41",
    "has_sse42",
    "has_popcnt",
    "has_avx",
    "has_avx2",
    "has_fma",
    "has_bmi1",
    "has_bmi2",
    "has_lzcnt",
];
const ARM64: &[&str] = &["has_lse"];

/// The fingerprint of this machine.
pub fn fingerprint() -> Fingerprint {
    Platform::HOST.fingerprint()
}

/// The number of runs that an engine can hold at once, and the most memory of each.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Runs at a time.
    pub concurrency: u32,
    /// The most linear memory that one run can have.
    pub memory: ByteCount,
}

/// wasmtime's configuration; without a pool, memory is allocated on demand.
pub(crate) fn config(pool: Option<Pool>) -> Result<Config> {
    // Destructured, so that an option cannot be in the fingerprint without being applied.
    let CompileOptions { target, cpu, epoch_interruption, max_wasm_stack, wasm_memory64 } =
        Platform::HOST.options();
    let mut config = Config::new();
    config.target(target)?;
    #[cfg(feature = "compiler")]
    for flag in cpu {
        // Safety: a worker whose CPU lacks a feature refuses the artifact when it loads it.
        unsafe { config.cranelift_flag_enable(flag) };
    }
    #[cfg(not(feature = "compiler"))]
    let _ = cpu;
    config.epoch_interruption(epoch_interruption);
    config.max_wasm_stack(max_wasm_stack);
    config.async_stack_size(2 * max_wasm_stack);
    config.wasm_memory64(wasm_memory64);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
    }
    Ok(config)
}

/// The most that one component may have of each. The pool has this many for every slot, so that no run can
/// take another run's share.
const INSTANCES: u32 = 100;
const MEMORIES: u32 = 8;
const TABLES: u32 = 16;

/// A pool that fits the components that toolchains make: an interpreter brings a dozen core instances,
/// memories for its adapters, and tables of up to 10,600 elements.
fn pooling(pool: Pool) -> PoolingAllocationConfig {
    let Pool { concurrency, memory } = pool;
    let memories = concurrency.saturating_mul(MEMORIES);
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(concurrency)
        .total_stacks(concurrency)
        .total_core_instances(concurrency.saturating_mul(INSTANCES))
        .total_memories(memories)
        .total_tables(concurrency.saturating_mul(TABLES))
        .max_core_instances_per_component(INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(4)
        .table_elements(20_000)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(usize::try_from(memory.0).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(kept_bytes(memories))
        .table_keep_resident(64 << 10)
        // If the kernel can report the written pages (Linux 6.7), only those are reset.
        .pagemap_scan(Enabled::Auto);
    pooling
}

/// The most written bytes of one memory that are rewritten after a run, and so stay mapped. Pages beyond that
/// are returned to the kernel. The next run faults them in again, which takes longer. An interpreter writes
/// about a megabyte in each run.
const KEPT_BYTES: usize = 1 << 20;
/// The bytes at the beginning of a memory that are rewritten after every run if the kernel cannot report the
/// written pages.
const KEPT_BYTES_BLINDLY: usize = 64 << 10;
/// The most that all memories of a pool may keep together: half of the memory that a worker has in addition
/// to its tasks' memory. A large pool keeps less of each memory.
const KEPT_BYTES_TOGETHER: usize = 64 << 20;

fn kept_bytes(memories: u32) -> usize {
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        (KEPT_BYTES_TOGETHER / memories.max(1) as usize).clamp(KEPT_BYTES_BLINDLY, KEPT_BYTES)
    } else {
        KEPT_BYTES_BLINDLY
    }
}
