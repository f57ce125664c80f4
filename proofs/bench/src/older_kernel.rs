//! Lets this process run as on a kernel that cannot report which pages were written (pagemap scan: Linux 6.7
//! and later). Lambda's kernel may be one of these.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use wasmtime::PoolingAllocationConfig;

/// `_IOWR('f', 16, struct pm_scan_arg)`, from linux/fs.h.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Makes the kernel refuse pagemap scans to this thread and to the threads that it starts, as a kernel
/// without them does.
pub(crate) fn pretend() -> Result<()> {
    let scan = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PAGEMAP_SCAN)
        .context("match scans")?;
    let rules =
        BTreeMap::from([(libc::SYS_ioctl, vec![SeccompRule::new(vec![scan]).context("refuse them")?])]);
    let unknown = SeccompAction::Errno(libc::ENOTTY as u32);
    let arch = std::env::consts::ARCH.try_into().context("filter calls on this machine")?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, unknown, arch).context("make the filter")?;
    let program: BpfProgram = filter.try_into().context("compile the filter")?;
    apply_filter(&program).context("apply the filter")?;
    ensure!(
        !PoolingAllocationConfig::is_pagemap_scan_available(),
        "the kernel answers pagemap scans all the same"
    );
    Ok(())
}
