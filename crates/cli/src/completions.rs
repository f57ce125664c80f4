//! `wasq completions`: scripts for shells, and man pages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::output::{self, Ended};

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", required_unless_present = "man")]
    pub(crate) shell: Option<Shell>,
    /// Write man pages into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    pub(crate) man: Option<PathBuf>,
}

/// Prints the script, or writes the man pages, of this command.
pub(crate) fn completions(args: Completions, mut command: clap::Command) -> Result<Ended> {
    if let Some(folder) = args.man {
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        clap_mangen::generate_to(command, &folder)
            .with_context(|| format!("write man pages into {}", folder.display()))?;
    } else if let Some(shell) = args.shell {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "wasq", &mut script);
        output::exactly(&String::from_utf8_lossy(&script));
    }
    Ok(Ended::Well)
}
