//! `wasq verify`: shows on a live deployment that it keeps wasq's promises, by tasks of its own.
//!
//! `probe.rs` makes the tasks and their messages. `site.rs` is the deployment that they are sent to. `uploads.rs`, `runs.rs` and
//! `disturbances.rs` check one part each, and `report.rs` collects the rows.

mod configuration;
mod disturbances;
mod judge;
mod probe;
mod report;
mod runs;
mod site;
mod uploads;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use wasq_protocol::parse_duration;

use crate::output::{self, Ended, tell};
use crate::target::{Target, TargetArgs};

use report::{Part, Report};
use site::Site;

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Check only this part; can be given several times
    #[arg(long, value_name = "PART", conflicts_with = "disturb")]
    pub(crate) only: Vec<Part>,
    /// Also lower the worker's concurrency to 1, and then its memory to 128 MB, and set both back: other messages wait meanwhile,
    /// or run again
    #[arg(long)]
    pub(crate) disturb: bool,
    /// How long to wait at most for messages, at each step
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Checks a deployment, and removes what the check has made. Ends with exit code 1 if a promise was broken.
pub(crate) async fn verify(args: Verify, json: bool) -> Result<Ended> {
    let Verify { only, disturb, timeout, yes, target } = args;
    let target = target.target().await?;
    let Target::Aws(deployment) = &target else {
        bail!(
            "name a deployment by --stack: `wasq verify` shows what the real AWS does. `cargo xtask sim` and the tests do so for this machine"
        );
    };
    let parts: Vec<_> = match (&only[..], disturb) {
        ([], false) => vec![Part::Configuration, Part::Uploads, Part::Runs],
        ([], true) => vec![Part::Configuration, Part::Uploads, Part::Runs, Part::Disturbances],
        (only, _) => only.to_vec(),
    };
    let account = deployment.session.identity().await?.account;
    tell!("wasq: about to check {} in {} (account {account})", deployment.name, deployment.session.region);
    if parts != [Part::Configuration] {
        tell!(
            "  It publishes up to 4 tasks whose names begin with wasq-verify, makes the secret /{}/wasq-verify, and sends up to 90 messages.",
            deployment.name
        );
        tell!(
            "  It removes them at the end. The registry keeps the history of the tasks, as of every removed task."
        );
        tell!(
            "  It takes 2 to 10 minutes, and AWS charges less than $0.02 for it. Other tasks go on meanwhile."
        );
    }
    if parts.contains(&Part::Disturbances) {
        tell!(
            "  For some minutes, the worker has a concurrency of 1, and then 128 MB of memory: other messages wait, or run again."
        );
    }
    if !yes && parts != [Part::Configuration] {
        ask().await?;
    }
    let mut report = Report::new();
    let site = Site::open(deployment, timeout).await?;
    let interrupted = tokio::select! {
        () = check(&site, &target, &parts, &mut report) => false,
        () = stopped() => true,
    };
    if parts != [Part::Configuration] {
        if interrupted {
            tell!("wasq: interrupted; removing what was made");
        }
        site.clear(&mut report).await;
    }
    if interrupted {
        output::text(&report.table());
        bail!("interrupted");
    }
    let well = report.well();
    if json {
        output::value(&report.json(&deployment.name, &deployment.session.region));
    } else {
        output::text(&report.table());
    }
    Ok(if well { Ended::Well } else { Ended::InPart })
}

/// Returns when the process is told to stop: by ctrl-c, by SIGTERM, or because its terminal is closed.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminated), Ok(mut hung_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
        _ = hung_up.recv() => {}
    }
}

async fn check(site: &Site, target: &Target, parts: &[Part], report: &mut Report) {
    if parts.contains(&Part::Configuration) {
        configuration::check(target, report).await;
    }
    if parts == [Part::Configuration] {
        return;
    }
    let live = uploads::publish_probe(site, report).await;
    if parts.contains(&Part::Uploads) && live {
        uploads::check(site, report).await;
    }
    if parts.contains(&Part::Runs) && live {
        runs::check(site, report).await;
    }
    if parts.contains(&Part::Disturbances) && live {
        disturbances::check(site, report).await;
    }
}

async fn ask() -> Result<()> {
    ensure!(std::io::stdin().is_terminal(), "nobody to ask: add --yes if you mean it");
    let answer = tokio::task::spawn_blocking(|| {
        eprint!("Go on? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await??;
    ensure!(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()), "nothing was done");
    Ok(())
}
