//! `wasq logs`: prints the records of runs and the lines that tasks logged. The functions write the same
//! lines on AWS and on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wasq_local::log_files;
use wasq_protocol::{Clock, RunRecord, SystemClock, format_duration, parse_duration};

use crate::log_lines::{Lines, Printer};
use crate::output::{Ended, tell};
use crate::target::{Target, TargetArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) select: Lines,
    /// How far back, such as 30m, 12h or 2d
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) since: Duration,
    /// Keep printing new lines until ctrl-c
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// The interval between two looks for new lines.
const POLL: Duration = Duration::from_millis(200);

pub(crate) async fn logs(args: Logs, json: bool) -> Result<Ended> {
    let Logs { target, select, since, follow } = args;
    let (back, since) = (since, SystemClock.now().minus(since));
    let mut printer = Printer::new(select, since, json);
    match target.target().await? {
        Target::Local(data) => {
            // The lines of a run have the message's own id. Its record has the queue's as well.
            if let Some(id) = printer.id.clone() {
                own_id(&data, &id)?.into_iter().for_each(|own| printer.id = Some(own));
            }
            here(&data, &printer, follow).await?;
        }
        Target::Aws(deployment) => deployment.print_logs(&printer, follow).await?,
    }
    if !printer.finish() {
        tell!("wasq: no line of the last {} matches; --since names another time", format_duration(back));
    }
    Ok(Ended::Well)
}

/// The log of `wasq dev`.
async fn here(data: &Path, printer: &Printer, follow: bool) -> Result<()> {
    let mut read: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        let files = log_files(data)?;
        if files.is_empty() && !follow {
            bail!(
                "there is no log in {}: start `wasq dev` here, name its data folder by --data, or a deployment by --stack",
                data.display()
            );
        }
        for path in files {
            let from = read.entry(path.clone()).or_default();
            let more = more(&path, *from).with_context(|| format!("read {}", path.display()))?;
            // A line that is being written is read when it is whole.
            let whole = more.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = more[..whole].split(|byte| *byte == b'\n');
            lines.for_each(|line| printer.line(&String::from_utf8_lossy(line)));
            *from += whole as u64;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The own id of the message with the queue's id `message_id`, if a record of the log names both.
fn own_id(data: &Path, message_id: &str) -> Result<Option<String>> {
    for path in log_files(data)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let records = text.lines().filter(|line| line.contains(message_id));
        for record in records.filter_map(|line| serde_json::from_str::<RunRecord>(line).ok()) {
            if record.message_id.as_deref() == Some(message_id) {
                return Ok(Some(record.id));
            }
        }
    }
    Ok(None)
}

fn more(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
