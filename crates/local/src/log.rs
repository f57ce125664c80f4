//! The log of the single-machine stack: JSON lines as the functions write them on AWS, in one file a day.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing_appender::rolling::{RollingFileAppender, RollingWriter, Rotation};
use tracing_subscriber::fmt::MakeWriter;

use crate::data_folder::private_folder;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log(Arc<RollingFileAppender>);

/// Days that are kept.
const DAYS: usize = 7;
const PREFIX: &str = "wasq";
const SUFFIX: &str = "jsonl";

impl Log {
    /// The target of events that repeat a record of the log for people.
    pub const TOLD: &str = "wasq::run";

    /// The log of the stack with this data folder.
    pub fn open(data: &Path) -> Result<Self> {
        private_folder(data)?;
        let folder = data.join("log");
        // The appender looks for old files in the folder before it makes the folder, and would complain.
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let appender = RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .max_log_files(DAYS)
            .filename_prefix(PREFIX)
            .filename_suffix(SUFFIX)
            .build(&folder)
            .with_context(|| format!("write a log in {}", folder.display()))?;
        Ok(Self(Arc::new(appender)))
    }

    /// Adds a line.
    pub(crate) fn line(&self, mut line: String) {
        line.push('\n');
        // A log that cannot be written must not cost a message.
        let _ = self.0.make_writer().write_all(line.as_bytes());
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = RollingWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        self.0.make_writer()
    }
}

/// The files of the log of the stack with this data folder, oldest first.
pub fn log_files(data: &Path) -> Result<Vec<PathBuf>> {
    let folder = data.join("log");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
