//! `wasq runs show`: one run in full.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};
use wasq_protocol::{AttemptEnd, ChildRef, Clock, ItemState, RunItem, Step, SystemClock, Timestamp};

use crate::output;
use crate::runs::Source;
use crate::target::TargetArgs;

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

/// A run for people, without its result. `target`: what remembers it.
pub(crate) fn whole(item: &RunItem, family: &Family, target: &TargetArgs) -> String {
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
    row("log", log_command(item, target, SystemClock.now()));
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
fn log_command(item: &RunItem, target: &TargetArgs, now: Timestamp) -> String {
    let TargetArgs { stack, region, data } = target;
    let first = item.sent.into_iter().chain(item.started).min().unwrap_or(item.updated);
    let hours = now.since(first).as_secs() / 3600 + 1;
    let mut command = format!("wasq logs --id={}", quoted(&item.id));
    let data = data.as_ref().map(|data| data.display().to_string());
    for (option, value) in [("stack", stack), ("region", region), ("data", &data)] {
        if let Some(value) = value {
            let _ = write!(command, " --{option} {}", quoted(value));
        }
    }
    if hours > 1 {
        let _ = write!(command, " --since {hours}h");
    }
    command
}

/// A word as a shell takes it. Ids have no blanks and no control characters, but others that a shell gives a meaning to.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
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
    use std::time::Duration;

    use wasq_protocol::{ItemState, RunItem, Timestamp};

    use super::log_command;
    use crate::target::TargetArgs;

    #[test]
    fn the_command_of_a_log() {
        let check = |id: &str, age: u64, target: &TargetArgs, expected: &str| {
            let sent = Timestamp::from_ms(1_790_000_000_000);
            let mut item = RunItem::new(id.to_owned(), ItemState::Done, sent);
            item.sent = Some(sent);
            let now = sent.plus(Duration::from_secs(age));
            assert_eq!(log_command(&item, target, now), expected);
        };
        let here = TargetArgs { stack: None, region: None, data: None };
        check("order-7", 60, &here, "wasq logs --id=order-7");
        check("-x", 60, &here, "wasq logs --id=-x");
        check("it's/7?&", 60, &here, r"wasq logs --id='it'\''s/7?&'");
        let there =
            TargetArgs { stack: Some("prod".to_owned()), region: Some("eu-west-1".to_owned()), data: None };
        check(
            "a@2026-11-27T19:00:00Z",
            60,
            &there,
            "wasq logs --id=a@2026-11-27T19:00:00Z --stack prod --region eu-west-1",
        );
        check(
            "old",
            49 * 3600,
            &TargetArgs { data: Some("my data".into()), ..here },
            "wasq logs --id=old --data 'my data' --since 50h",
        );
    }
}
