//! The promises about uploads.

use anyhow::{Context, Result, bail, ensure};
use wasq_local::Listed;
use wasq_protocol::{Digest, Version};

use crate::cloud::Recompiled;
use crate::verify::probe::{self, BROKEN, PROBE, SETTINGS, WITH_SECRET};
use crate::verify::report::{Part, Report, Shown};
use crate::verify::site::Site;

/// Publishes the probe. Returns whether it is live.
pub(super) async fn publish_probe(site: &Site, report: &mut Report) -> bool {
    let work = async {
        let version = upload(site, PROBE, 1, SETTINGS).await?;
        site.make_secret().await?;
        // The tests of runs need it as well.
        upload(site, WITH_SECRET, 1, &with_secret(site)).await?;
        Ok(Shown::Held(format!("version {}", version.version)))
    };
    report.check(Part::Uploads, "An upload goes live", work).await
}

pub(super) async fn check(site: &Site, report: &mut Report) {
    let part = Part::Uploads;
    report.check(part, "A broken upload is refused, with the reason", broken(site)).await;
    report.check(part, "A task whose secret does not exist is refused", without_secret(site)).await;
    report.check(part, "A new version replaces the one before", new_version(site)).await;
    report.check(part, "An earlier version comes back", rollback(site)).await;
    report.check(part, "A live task can be compiled again", compile_again(site)).await;
}

fn with_secret(site: &Site) -> String {
    format!("{SETTINGS}[secrets]\nVERIFY = \"ssm:{}\"\n", site.secret())
}

/// Uploads a module, and waits until it is live.
async fn upload(site: &Site, task: &str, number: u8, settings: &str) -> Result<Version> {
    let module = probe::module(number)?;
    let digest = Digest::of(&module);
    site.upload(task, module, settings).await?;
    live(site, task, digest).await
}

async fn live(site: &Site, task: &str, digest: Digest) -> Result<Version> {
    let answer = |listed: &Listed| {
        if let Some(live) = &listed.live
            && live.version.digest == digest
        {
            return Some(Ok(live.version.clone()));
        }
        let refused = listed.rejected.as_ref()?;
        (refused.digest == Some(digest) && !refused.fault).then(|| Err(refused.reason.clone()))
    };
    match site.published(task, answer).await? {
        Ok(version) => Ok(version),
        Err(reason) => bail!("it was refused: {reason}"),
    }
}

/// The reason for which an upload is refused.
async fn refused(site: &Site, task: &str) -> Result<String> {
    let answer = |listed: &Listed| match (&listed.rejected, &listed.live) {
        (Some(refused), None) => Some(Ok(refused.reason.clone())),
        (_, Some(_)) => Some(Err(())),
        _ => None,
    };
    site.published(task, answer).await?.map_err(|()| anyhow::anyhow!("it went live"))
}

async fn broken(site: &Site) -> Result<Shown> {
    site.upload(BROKEN, b"no component".to_vec(), SETTINGS).await?;
    Ok(Shown::Held(refused(site, BROKEN).await?))
}

async fn without_secret(site: &Site) -> Result<Shown> {
    let settings = format!("{SETTINGS}[secrets]\nVERIFY = \"ssm:{}-absent\"\n", site.secret());
    // The upload before was refused as well: the reason tells the two apart.
    site.upload(BROKEN, probe::module(3)?, &settings).await?;
    let answer = |listed: &Listed| match (&listed.rejected, &listed.live) {
        (Some(refused), _) if refused.reason.contains("-absent") => Some(Ok(refused.reason.clone())),
        (_, Some(_)) => Some(Err(())),
        _ => None,
    };
    let reason = site.published(BROKEN, answer).await?;
    Ok(Shown::Held(reason.map_err(|()| anyhow::anyhow!("it went live"))?))
}

async fn new_version(site: &Site) -> Result<Shown> {
    let Version { version, .. } = upload(site, WITH_SECRET, 2, &with_secret(site)).await?;
    Ok(Shown::Held(format!("version {version}")))
}

async fn rollback(site: &Site) -> Result<Shown> {
    let task = probe::task(WITH_SECRET);
    let record = site.registry.task(&task).await?.live.context("the task is not live")?;
    let earlier = record.history.first().context("the live record has no history")?;
    let module = site.registry.module(&earlier.digest).await?;
    ensure!(Digest::of(&module) == earlier.digest, "the registry's copy of {} is damaged", earlier.digest);
    site.registry.upload(&format!("{WITH_SECRET}.wasm"), module).await?;
    let Version { version, .. } = live(site, WITH_SECRET, earlier.digest).await?;
    Ok(Shown::Held(format!("version {} came back as version {version}", earlier.version)))
}

async fn compile_again(site: &Site) -> Result<Shown> {
    match site.publisher.compile_again(&probe::task(PROBE)).await? {
        Recompiled::Done => Ok(Shown::Held(String::new())),
        Recompiled::Refused(why) => bail!(why),
    }
}
