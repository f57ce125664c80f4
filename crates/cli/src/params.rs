//! The option `--params`: JSON, or where to read it.

use std::io::Read;

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

#[derive(Debug, clap::Args)]
pub(crate) struct ParamsArgs {
    /// The task's params as JSON, or @FILE to read them from a file, or - to read them from stdin
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE|-")]
    pub(crate) params: String,
}

impl ParamsArgs {
    /// The params as JSON text.
    pub(crate) fn read(&self) -> Result<Box<RawValue>> {
        let (text, source) = self.text()?;
        serde_json::from_str(&text).with_context(|| format!("{source} is not JSON"))
    }

    /// Each line as the params of a message of its own, if the params come from stdin (NDJSON). Otherwise one.
    pub(crate) fn read_lines(&self) -> Result<Vec<Box<RawValue>>> {
        if self.params != "-" {
            return Ok(vec![self.read()?]);
        }
        let (text, _) = self.text()?;
        // One value may have several lines.
        if let Ok(value) = serde_json::from_str(&text) {
            return Ok(vec![value]);
        }
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let values = lines.map(|(at, line)| {
            serde_json::from_str(line).with_context(|| format!("line {} of stdin is not JSON", at + 1))
        });
        let values: Vec<_> = values.collect::<Result<_>>()?;
        if values.is_empty() {
            bail!("stdin is empty; expected params as JSON, one message a line");
        }
        Ok(values)
    }

    fn text(&self) -> Result<(String, String)> {
        if self.params == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("read the params from stdin")?;
            return Ok((text, "stdin".to_owned()));
        }
        if let Some(file) = self.params.strip_prefix('@') {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("read the params from {file}"))?;
            return Ok((text, format!("the file {file}")));
        }
        Ok((self.params.clone(), format!("--params {:?}", self.params)))
    }
}
