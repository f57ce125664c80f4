//! `wasq runs show`: one run in full.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};
use wasq_protocol::{AttemptEnd, ChildRef, ItemState, RunItem, Step};

use crate::output;
use crate::runs::Source;

/// A child, with what is remembered of it.
pub(crate) struct Child {
    child: ChildRef,
    item: Option<RunItem>,
    family: Family,
}

/// The children of a run.
pub(crate) struct Family(Vec<Child>);

/// The levels of children that are shown, and the children in all.
const LEVELS: usize = 4;
const CHILDREN: usize = 100;
/// The characters of a step's value that are shown.
const VALUE_SHOWN: usize = 100;

/// Reads what is remembered of a run's children, and of theirs.
pub(crate) async fn children(source: &Source, item: &RunItem) -> Result<Family> {
    let mut left = CHILDREN;
    below(source, item, LEVELS, &mut left).await
}

async fn below(source: &Source, item: &RunItem, levels: usize, left: &mut usize) -> Result<Family> {
    let mut family = Vec::new();
    for child in &item.children {
        if levels == 0 || *left == 0 {
            break;
        }
        *left -= 1;
        let item = source.get(&child.id).await?;
        let below_it = match &item {
            Some(item) => Box::pin(below(source, item, levels - 1, left)).await?,
            None => Family(Vec::new()),
        };
        family.push(Child { child: child.clone(), item, family: below_it });
    }
    Ok(Family(family))
}

impl Family {
    pub(crate) fn value(&self) -> Value {
        let value = |child: &Child| {
            let state = child.item.as_ref().map(|item| item.state);
            json!({ "id": child.child.id, "task": child.child.task, "state": state, "children": child.family.value() })
        };
        Value::Array(self.0.iter().map(value).collect())
    }

    fn lines(&self, indent: usize, text: &mut String) {
        for Child { child: ChildRef { id, task }, item, family } in &self.0 {
            let state = item.as_ref().map_or("waiting", |item| item.state.as_str());
            let _ = writeln!(text, "{:indent$}{state:<9}  {task}  {id}", "");
            family.lines(indent + 2, text);
        }
    }
}

/// A run for people, without its result. `stack`: the deployment that remembers it.
pub(crate) fn whole(item: &RunItem, family: &Family, stack: Option<&str>) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    row("id", item.id.clone());
    if let Some(message_id) = item.message_id.as_ref().filter(|message_id| **message_id != item.id) {
        row("message", message_id.clone());
    }
    row("task", item.task.as_ref().map_or("-".to_owned(), ToString::to_string));
    row("state", state(item));
    if let Some(parent) = &item.parent {
        row("parent", parent.clone());
    }
    let times = [("sent", item.sent), ("started", item.started), ("ended", item.ended)];
    times
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
        .for_each(|(name, at)| row(name, at.to_string()));
    if let Some(params) = &item.params_json {
        row("params", shortened(params.get()));
    }
    let cut_off = match item.cut_off {
        0 => String::new(),
        1 => ", and 1 that was cut off".to_owned(),
        many => format!(", and {many} that were cut off"),
    };
    row("log", log_command(&item.id, stack));
    row("attempts", format!("{}{cut_off}", item.attempts));
    for end in &item.history {
        let _ = writeln!(text, "  {}", attempt(end));
    }
    if !item.steps.is_empty() {
        let _ = writeln!(text, "{:<10} {}", "steps", item.steps.len());
    }
    for Step { name, value, attempt, saved } in &item.steps {
        let _ = writeln!(text, "  {name}  attempt {attempt}  {saved}  {}", shortened(value.get()));
    }
    if item.children_count > 0 {
        let unsent = if item.unsent.is_empty() { "" } else { ", not all of them sent" };
        let _ = writeln!(text, "{:<10} {}{unsent}", "children", item.children_count);
        family.lines(2, &mut text);
    }
    if item.result.is_some() {
        let _ = writeln!(text, "result");
    }
    text
}

/// The command that shows the log of a run.
fn log_command(id: &str, stack: Option<&str>) -> String {
    // Ids have no blanks and no control characters. A shell gives a meaning to others.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    let id =
        if id.chars().all(is_plain) { id.to_owned() } else { format!("'{}'", id.replace('\'', r"'\''")) };
    let stack = stack.map(|stack| format!(" --stack {stack}")).unwrap_or_default();
    format!("wasq logs --id {id}{stack}")
}

/// A value on one line.
fn shortened(json: &str) -> String {
    let line: String =
        json.chars().take(VALUE_SHOWN).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let more = json.chars().nth(VALUE_SHOWN).is_some();
    line + if more { " ..." } else { "" }
}

fn state(item: &RunItem) -> String {
    let mut text = item.state.to_string();
    match (item.state, item.next, item.lease_until) {
        (ItemState::Waiting | ItemState::Retrying, Some(next), _) => {
            let what = if item.attempts == 0 { "runs" } else { "next try" };
            let _ = write!(text, ", {what} at {next}");
        }
        (ItemState::Running, _, Some(until)) => {
            let _ = write!(text, ", its worker has time until {until}");
        }
        _ => {}
    }
    if item.cancel && !item.state.is_end() {
        text += "; somebody asked to cancel it";
    }
    if let Some(kind) = item.kind {
        let _ = write!(text, "; {kind}: {}", item.reason.as_deref().unwrap_or_default());
    }
    text
}

fn attempt(end: &AttemptEnd) -> String {
    let how = match (&end.kind, &end.reason) {
        (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
        (Some(kind), None) => kind.to_string(),
        (None, _) => "success".to_owned(),
    };
    let memory = output::size(end.peak_memory_bytes);
    let log = end.request_id.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
    format!("{}  {}  {:.1} ms, {memory}{log}  {how}", end.attempt, end.ended, end.run_ms)
}

#[cfg(test)]
mod tests {
    use super::log_command;

    #[test]
    fn ids_in_commands() {
        assert_eq!(log_command("order-7", None), "wasq logs --id order-7");
        assert_eq!(
            log_command("hello@2026-11-27T19:00:00Z", Some("prod")),
            "wasq logs --id hello@2026-11-27T19:00:00Z --stack prod"
        );
        assert_eq!(log_command("it's/7?&", None), r"wasq logs --id 'it'\''s/7?&'");
    }
}
