//! The part of `wasq doctor` about this machine: toolchains, `wasq dev`, and refused uploads.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};
use wasq_local::{LastStack, is_running, list_tasks};
use wasq_toolkit::{Language, toolchain};

/// The state of this machine.
pub(super) struct Machine {
    /// For each language, its toolchain, or what is missing.
    toolchains: Vec<(Language, Result<String, String>)>,
    /// Where `wasq dev` of the data folder listens, if it runs.
    running: Option<SocketAddr>,
    /// Whether the usual port is free.
    port_is_free: bool,
    /// The tasks whose last upload was refused, with the reasons.
    refused: Vec<(String, String)>,
}

/// The port of `wasq dev` if nothing else is said.
const USUAL: &str = "127.0.0.1:9324";

impl Machine {
    pub(super) fn look(data: &Path) -> Self {
        let toolchains = Language::ALL.into_iter();
        let toolchains = toolchains
            .map(|language| (language, toolchain(language).map_err(|e| format!("{e:#}"))))
            .collect();
        let running = LastStack::of(data).filter(|_| is_running(data)).map(|last| last.listen);
        let tasks = list_tasks(data).unwrap_or_default();
        let refused = tasks.into_iter().filter_map(|task| task.rejected).filter(|rejection| !rejection.fault);
        let refused = refused.map(|refused| (refused.task.to_string(), refused.reason)).collect();
        Self { toolchains, running, port_is_free: TcpListener::bind(USUAL).is_ok(), refused }
    }

    /// Whether `wasq dev` runs.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the last upload of a task was refused.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    pub(super) fn text(&self, data: &Path) -> String {
        let mut text = String::new();
        for (language, toolchain) in &self.toolchains {
            let said = toolchain.as_ref().unwrap_or_else(|missing| missing);
            text += &format!("{:<12} {said}\n", language.to_string());
        }
        let port = if self.port_is_free { "free" } else { "in use" };
        text += &match self.running {
            Some(address) => {
                format!("{:<12} runs at {address}, with its data in {}\n", "wasq dev", data.display())
            }
            None => format!(
                "{:<12} does not run with the data folder {}; the port of {USUAL} is {port}\n",
                "wasq dev",
                data.display()
            ),
        };
        for (task, reason) in &self.refused {
            text += &format!("{:<12} the last upload of {task}: {reason}\n", "refused");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let toolchains: serde_json::Map<_, _> = self
            .toolchains
            .iter()
            .map(|(language, toolchain)| {
                let value = match toolchain {
                    Ok(title) => json!({ "version": title }),
                    Err(missing) => json!({ "missing": missing }),
                };
                (language.name().to_owned(), value)
            })
            .collect();
        let refused: Vec<_> =
            self.refused.iter().map(|(task, reason)| json!({ "task": task, "reason": reason })).collect();
        json!({
            "toolchains": toolchains,
            "wasq_dev": self.running,
            "usual_port_is_free": self.port_is_free,
            "refused": refused,
        })
    }
}
