//! The configuration of the deployment, by the doctor's rules: one row for each effect that a fault would have.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::doctor::{Effect, Finding, examined};
use crate::target::Target;
use crate::verify::report::{Part, Report, Shown};

const PROMISES: [(Effect, &str); 5] = [
    (Effect::Loses, "No setting loses messages"),
    (Effect::Stops, "No setting stops runs or uploads"),
    (Effect::Duplicates, "No setting makes tasks run twice"),
    (Effect::Exposes, "No setting lets anybody in"),
    (Effect::Costs, "No setting lets costs grow for ever"),
];

pub(super) async fn check(target: &Target, report: &mut Report) {
    let started = Instant::now();
    let (findings, unread) = match examined(target).await {
        Ok(examined) => examined,
        Err(e) => (Vec::new(), vec![format!("{e:#}")]),
    };
    let took = started.elapsed();
    let whole = if unread.is_empty() {
        Ok(Shown::Held(String::new()))
    } else {
        Err(anyhow::anyhow!(unread.join("; ")))
    };
    report.add(Part::Configuration, "Every setting can be read", took, whole);
    for (effect, promise) in PROMISES {
        let found = findings.iter().filter(|finding| finding.effect == effect);
        report.add(Part::Configuration, promise, Duration::ZERO, without(found));
    }
}

fn without<'a>(found: impl Iterator<Item = &'a Finding>) -> Result<Shown> {
    let found: Vec<_> = found
        .map(|Finding { resource, problem, fix, .. }| format!("{resource}: {problem}; fix: {fix}"))
        .collect();
    if !found.is_empty() {
        bail!(found.join(". "));
    }
    Ok(Shown::Held(String::new()))
}
