//! The tables of a run, as text for the terminal and as `docs/performance.md` with its plots.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::plot::Plot;

/// Everything that one run of the benchmarks has found.
pub(crate) struct Report {
    /// The machine and the versions that it was measured with.
    pub(crate) machine: Vec<(&'static str, String)>,
    pub(crate) targets: Vec<Target>,
    pub(crate) tables: Vec<Table>,
}

/// A number that wasq should reach.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) measured: String,
    pub(crate) wanted: &'static str,
    /// `None` where it could not be measured; `measured` says why.
    pub(crate) met: Option<bool>,
}

/// A table, and the plot of it.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// The description of the measurement.
    pub(crate) about: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) plot: Option<Plot>,
}

const BEGIN: &str = "<!-- `cargo xtask bench --write` writes all from here to the other mark. -->";
const END: &str = "<!-- Until here. -->";

impl Report {
    /// Returns the report as Markdown. With `plots`, it links the plots in the folder of that name.
    pub(crate) fn markdown(&self, plots: Option<&str>) -> String {
        let mut text = String::new();
        for (what, found) in &self.machine {
            let _ = writeln!(text, "- {what}: {found}");
        }
        let _ = writeln!(text, "\n## Targets\n");
        let targets = self.targets.iter().map(|target| {
            let met = match target.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            [target.what, &target.measured, target.wanted, met].map(str::to_owned).to_vec()
        });
        table(&mut text, &["what", "measured", "target", "met"], &targets.collect::<Vec<_>>());
        for Table { title, about, columns, rows, plot } in &self.tables {
            let _ = writeln!(text, "\n## {title}\n\n{about}\n");
            if let (Some(plot), Some(folder)) = (plot, plots) {
                let _ = writeln!(text, "![{title}]({folder}/{}.svg)\n", plot.name);
            }
            table(&mut text, columns, rows);
        }
        text
    }

    /// Replaces the part of the document that earlier runs have written, and the plots next to it.
    pub(crate) fn write(&self, document: &Path) -> Result<()> {
        let text =
            std::fs::read_to_string(document).with_context(|| format!("read {}", document.display()))?;
        let whole = || format!("{} has no lines {BEGIN:?} and {END:?}", document.display());
        let (before, rest) = text.split_once(BEGIN).with_context(whole)?;
        let (_, after) = rest.split_once(END).with_context(whole)?;
        let folder = document.with_extension("");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let name = folder.file_name().and_then(|name| name.to_str()).context("the document's name")?;
        for plot in self.tables.iter().filter_map(|table| table.plot.as_ref()) {
            let path = folder.join(plot.name).with_extension("svg");
            std::fs::write(&path, plot.svg()).with_context(|| format!("write {}", path.display()))?;
        }
        let text = format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.markdown(Some(name)));
        std::fs::write(document, text).with_context(|| format!("write {}", document.display()))
    }

    /// Returns an error that names the missed targets, if there are any.
    pub(crate) fn check(&self) -> Result<()> {
        let missed: Vec<_> = self
            .targets
            .iter()
            .filter(|target| target.met == Some(false))
            .map(|target| target.what)
            .collect();
        ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
        Ok(())
    }
}

/// Writes a Markdown table with columns that are aligned in the source as well.
fn table(text: &mut String, columns: &[&str], rows: &[Vec<String>]) {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([columns[i].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let cells = cells.zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(&mut columns.iter().map(|&column| column.to_owned()));
    line(&mut widths.iter().map(|&width| "-".repeat(width)));
    rows.iter().for_each(|row| line(&mut row.iter().cloned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(measured: &str) -> Report {
        let bars = vec![("wasq".to_owned(), 1.0), ("other".to_owned(), 2.0)];
        Report {
            machine: vec![("machine", "this one".to_owned())],
            targets: vec![Target {
                what: "a run",
                measured: measured.to_owned(),
                wanted: "1",
                met: Some(false),
            }],
            tables: vec![Table {
                title: "Runs",
                about: "Of a run.".to_owned(),
                columns: vec!["way", "us"],
                rows: vec![vec!["wasq".to_owned(), "1".to_owned()]],
                plot: Some(Plot { name: "runs", title: "Runs", unit: "us", bars }),
            }],
        }
    }

    #[test]
    fn a_document_keeps_what_stands_around_its_tables() {
        let folder = tempfile::tempdir().expect("a folder");
        let document = folder.path().join("performance.md");
        std::fs::write(&document, format!("before\n{BEGIN}\nstale\n{END}\nafter\n")).expect("written");
        report("2").write(&document).expect("written");
        report("3").write(&document).expect("written again");
        let text = std::fs::read_to_string(&document).expect("read");
        assert!(text.starts_with("before\n") && text.ends_with("\nafter\n"), "{text}");
        assert!(text.contains("| a run | 3        | 1      | **no** |") && !text.contains("stale"), "{text}");
        assert!(text.contains("](performance/runs.svg)"), "{text}");
        assert!(folder.path().join("performance/runs.svg").exists());
        let missed = report("3").check().expect_err("one is missed").to_string();
        assert_eq!(missed, "missed: a run");
        std::fs::write(&document, "nothing").expect("written");
        assert!(report("3").write(&document).is_err(), "there is no place for it");
    }
}
