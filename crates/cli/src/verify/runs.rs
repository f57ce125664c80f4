//! The promises about runs.

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use wasq_protocol::{Outcome, RunRecord};

use crate::cloud::explain;
use crate::verify::judge::{MISSING, times};
use crate::verify::probe::{self, Expected, PROBE, Probe};
use crate::verify::report::{Part, Report, Shown};
use crate::verify::site::Site;

pub(super) async fn check(site: &Site, report: &mut Report) {
    let (part, prefix) = (Part::Runs, &site.prefix);
    let first = probe::simple("A message runs", prefix, "first");
    if !report.check(part, first.promise, one(site, &first)).await {
        return;
    }
    let second = probe::simple("A message runs on a worker that is warm", prefix, "second");
    report.check(part, second.promise, one(site, &second)).await;
    report.check(part, "A direct invoke answers with the result", direct(site)).await;
    let probes = probe::each(prefix, site.largest);
    site.follow(part, &probes, report).await;
    let many = probe::many("Messages that come at once run once each", prefix, "many", "n");
    report.check(part, many[0].promise, at_once(site, &many)).await;
    let rejected = probes.iter().find(|probe| matches!(probe.expected, Expected::Dead { runs: 1, .. }));
    let rejected = rejected.expect("one of our messages is rejected");
    report.check(part, "A redriven message keeps its id and its history", redrive(site, rejected)).await;
}

async fn one(site: &Site, probe: &Probe) -> Result<Shown> {
    let records = site.all(std::slice::from_ref(probe)).await?;
    let record = records.iter().rfind(|record| record.id == probe.id);
    Ok(Shown::Held(record.map_or_else(|| MISSING.to_owned(), times)))
}

async fn direct(site: &Site) -> Result<Shown> {
    let payload = json!({ "task": PROBE, "params": "e" }).to_string();
    let invoke = site.lambda.invoke().function_name(site.worker()?).payload(Blob::new(payload)).send();
    let answer = invoke.await.map_err(explain).context("invoke the worker")?;
    let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
    let payload = String::from_utf8_lossy(&payload);
    match serde_json::from_str(&payload) {
        Ok(Outcome::Success { output }) => {
            let output: Value = serde_json::from_str(output.get())?;
            ensure!(output == "e", "it answered {output}");
            Ok(Shown::Held(String::new()))
        }
        _ => bail!("it answered {payload}"),
    }
}

pub(super) async fn at_once(site: &Site, probes: &[Probe]) -> Result<Shown> {
    let records = site.all(probes).await?;
    let of_these = |record: &&RunRecord| probes.iter().any(|probe| probe.id == record.id);
    let slowest = records
        .iter()
        .filter(of_these)
        .map(|record| record.queued_ms.unwrap_or_default())
        .fold(0.0, f64::max);
    Ok(Shown::Held(format!("{} messages, the last had a slot after {:.1} s", probes.len(), slowest / 1000.0)))
}

/// The probe's message was dead-lettered once. It runs again, with the same id, and becomes a dead letter with a history.
async fn redrive(site: &Site, probe: &Probe) -> Result<Shown> {
    site.redrive(&probe.id).await?;
    let expected = match probe.expected {
        Expected::Dead { kind, runs } => Expected::Dead { kind, runs: runs + 1 },
        other => other,
    };
    site.ended(&[Probe { expected, ..probe.clone() }]).await?;
    let earlier = site.earlier_ends(&probe.id).await;
    ensure!(earlier == 1, "its dead letter names {earlier} earlier ends, and there was 1");
    Ok(Shown::Held(String::new()))
}
