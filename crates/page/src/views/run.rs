//! One run.

use maud::{Markup, html};
use wasq_protocol::{AttemptEnd, ItemState, RunItem, SentRequest, Timestamp};

use crate::data::{LogLine, Stages};
use crate::family::{Family, Relative};
use crate::form::encoded;
use crate::json::{quoted, tree};
use crate::once;
use crate::pictures::timeline;
use crate::text::{bounded, duration, line, ms, size, visible};
use crate::views::send::of_letter;
use crate::views::{fact, run_link, state, task_link, time};

/// The bytes of a reason, of a log line and of a step's value that are shown.
const REASON_BYTES: usize = 8 << 10;
const LINE_BYTES: usize = 4 << 10;

/// The news of the last act.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    /// The message was cancelled.
    Cancelled,
    /// It could not be cancelled: it has ended so.
    Ended(ItemState),
    /// A message with an id that was used before was sent.
    IdUsed,
}

pub(crate) fn run(
    run: &RunItem,
    family: &Family,
    log: &[LogLine],
    now: Timestamp,
    said: Option<Said>,
    letter: Option<&str>,
) -> Markup {
    let other_id = run.message_id.as_ref().filter(|message_id| **message_id != run.id);
    let took = run.started.zip(run.ended).map(|(started, ended)| duration(ended.since(started)));
    html! {
        h1 { (state(run.state)) " " span.id { (line(&run.id, 200)) } }
        (of_letter(letter))
        @match said {
            Some(Said::Cancelled) => { p.said role="status" { "It is cancelled. A run that is under way is ended soon." } }
            Some(Said::Ended(state)) => { p.said.bad role="status" { "It could not be cancelled: it is " (state) "." } }
            Some(Said::IdUsed) => { p.said role="status" {
                "The message was sent, and its id was used before. This is the run of the earlier message. If that is done, the new one does not run."
            } }
            None => {}
        }
        @if let Some(picture) = timeline(run, now) { (picture) }
        dl.facts {
            (fact("task", Some(task_link(run.task.as_ref()))))
            (fact("message", other_id.map(|id| html! { span.id { (visible(id)) } })))
            (fact("parent", run.parent.as_deref().map(run_link)))
            (fact("top of the chain", run.root.as_deref().filter(|root| Some(*root) != run.parent.as_deref()).map(run_link)))
            (fact("sent", run.sent.map(time)))
            (fact("started", run.started.map(time)))
            (fact("ended", run.ended.map(time)))
            (fact("took", took.map(|took| html! { (took) })))
            (fact(if run.attempts == 0 { "runs at" } else { "next try" }, run.next.map(time)))
            (fact("its worker has time until", run.lease_until.map(time)))
            (fact("attempts", Some(html! { (run.attempts) @if run.cut_off > 0 { ", and " (run.cut_off) " cut off" } })))
            (fact("module", run.module.map(|module| html! { code { (module.short()) } })))
        }
        @if !run.state.is_end() {
            form method="post" action="/act/cancel" {
                input type="hidden" name="id" value=(run.id);
                @if run.cancel { p { "Somebody has asked to cancel it." } }
                button.bad { "Cancel" }
            }
        }
        @if run.state.is_end() && run.params_json.is_some() {
            form method="post" action="/act/again" {
                (once::field())
                input type="hidden" name="id" value=(run.id);
                button { "Run again" }
                " as a new message, with an id of its own"
                @if run.state == ItemState::Dead { ". Its dead letter stays where it is: " a href="/dead" { "redrive" } " sends the same message" }
                "."
            }
        }
        @if let (Some(kind), Some(reason)) = (run.kind, &run.reason) {
            h2 { "Last failure: " (kind) }
            pre.reason tabindex="0" { (bounded(reason, REASON_BYTES)) }
        }
        @if let Some(params) = &run.params_json {
            h2 { "Params" }
            div #params { (tree(params.get())) }
            @if let Some(task) = &run.task {
                details { summary { "The same on your machine" } (command(&format!("wasq run ./{task}.wasm --params={}", quoted(params.get())))) }
            }
        } @else if run.params.is_some() {
            h2 { "Params" }
            p { "They are not kept: they are too large, or an earlier version of wasq ran the message." }
        }
        @if run.result.is_some() || run.large.is_some() {
            h2 { "Result" }
            @if let Some(result) = &run.result { div #result { (tree(result.get())) } } @else { p { "It is too large for this page: " code { "wasq runs result" } " prints it." } }
        }
        @if !run.history.is_empty() {
            h2 { "Attempts" }
            div.scroll tabindex="0" role="region" aria-label="Attempts" { table {
                thead { tr { th.number { "attempt" } th { "outcome" } th { "ended" } th.number { "run" } th.number { "memory" } th { "module" } th { "reason" } } }
                tbody { @for end in &run.history { (attempt(end)) } }
            } }
        }
        @if log.iter().any(|line| line.stages.is_some()) {
            h2 { "Stages" }
            div.scroll tabindex="0" role="region" aria-label="Stages" { table {
                thead { tr { th.number { "attempt" } th.number { "queued" } th.number { "of it in the worker" } th.number { "load" } th.number { "run" } th.number { "settle" } } }
                tbody { @for LogLine { attempt, stages, .. } in log { @if let Some(stages) = stages { (stages_of(*attempt, stages)) } } }
            } }
        }
        @if !run.steps.is_empty() {
            h2 { "Steps" }
            div.scroll tabindex="0" role="region" aria-label="Steps" { table {
                thead { tr { th { "step" } th.number { "attempt" } th { "saved" } th { "value" } } }
                tbody { @for step in &run.steps {
                    tr { td { (line(&step.name, 100)) } td.number { (step.attempt) } td { (time(step.saved)) } td { (tree(step.value.get())) } }
                } }
            } }
        }
        @if run.children_count > 0 {
            h2 { "Children" }
            p { (run.children_count) " sent" @if !run.unsent.is_empty() { ", some of them not yet" } ". "
                a href=(format!("/runs?id={}", encoded(&run.id))) { "Those that ran" } }
        }
        @if run.children_count > 0 || !family.parents.is_empty() { (tree_of(run, family)) }
        @if log.iter().any(|line| !line.requests.is_empty()) {
            h2 { "Requests" }
            div.scroll tabindex="0" role="region" aria-label="Requests" { table {
                thead { tr { th.number { "attempt" } th { "method" } th { "to" } th.number { "status" } th.number { "after" } th.number { "took" } } }
                tbody { @for LogLine { attempt, requests, .. } in log { @for each in requests { (request(*attempt, each)) } } }
            } }
        }
        h2 { "Log" }
        @if log.is_empty() {
            p { "No lines in the last part of the log, which this page reads. " code { "wasq logs --id" } " reads all of it." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Log" { table.log {
                thead { tr { th { "time" } th { "level" } th.number { "attempt" } th { "line" } } }
                tbody { @for LogLine { at, level, attempt, text, requests: _, stages: _ } in log {
                    tr {
                        td { @if let Ok(at) = at.parse() { (time(at)) } @else { (line(at, 40)) } }
                        td { span class=(format!("level {}", level.to_ascii_lowercase())) { (line(level, 10)) } }
                        td.number { @if let Some(attempt) = attempt { (attempt) } }
                        td.text { (bounded(text, LINE_BYTES)) }
                    }
                } }
            } }
        }
    }
}

/// How long each stage of one delivery took.
fn stages_of(attempt: Option<u64>, stages: &Stages) -> Markup {
    let Stages { queued_ms, place_ms, load_ms, run_ms, acknowledge_ms } = *stages;
    html! {
        tr {
            td.number { @if let Some(attempt) = attempt { (attempt) } }
            td.number { @if let Some(queued) = queued_ms { (ms(queued)) } }
            @for time in [place_ms, load_ms, run_ms, acknowledge_ms] { td.number { (ms(time)) } }
        }
    }
}

/// The parents of a run, the run itself, and its children.
fn tree_of(run: &RunItem, family: &Family) -> Markup {
    let mut below = html! {
        ul.family { li {
            (state(run.state)) " " @if let Some(task) = &run.task { (task) " " } b { "this one" }
            (children(&family.children, run.children_count))
        } }
    };
    for parent in family.parents.iter().rev() {
        below = html! { ul.family { li { (relative(parent)) (below) } } };
    }
    html! {
        @if run.children_count == 0 { h2 { "Parents" } }
        @if family.is_cut { p.note { "Only the nearest parents are shown." } }
        (below)
    }
}

fn children(shown: &[Relative], all: u32) -> Markup {
    let left_out = all.saturating_sub(u32::try_from(shown.len()).unwrap_or(u32::MAX));
    html! {
        @if all > 0 { ul.family {
            @for child in shown { li { (relative(child)) (children(&child.children, child.children_count)) } }
            @if left_out > 0 { li.note { @if shown.is_empty() { (left_out) " children" } @else { (left_out) " more" } } }
        } }
    }
}

fn relative(relative: &Relative) -> Markup {
    let Relative { id, task, state: reached, children: _, children_count: _ } = relative;
    html! {
        @match reached { Some(reached) => (state(*reached)), None => span.note { "not run yet, or forgotten" } }
        " " @if let Some(task) = task { (task) " " } (run_link(id))
    }
}

/// A command that can be copied.
fn command(command: &str) -> Markup {
    html! {
        div.command {
            pre tabindex="0" { (command) }
            button.copy type="button" { "Copy" }
        }
    }
}

/// One HTTP request of an attempt. Its path is not recorded.
fn request(attempt: Option<u64>, request: &SentRequest) -> Markup {
    let SentRequest { method, to, status, began_ms, took_ms } = request;
    html! {
        tr {
            td.number { @if let Some(attempt) = attempt { (attempt) } }
            td { (line(method, 20)) }
            td { (line(to, 100)) }
            td.number.bad[status.is_none_or(|status| status >= 400)] { @match status { Some(status) => (status), None => "none" } }
            td.number { (ms(*began_ms)) }
            td.number { (ms(*took_ms)) }
        }
    }
}

fn attempt(end: &AttemptEnd) -> Markup {
    let AttemptEnd { attempt, ended, run_ms, peak_memory_bytes, kind, reason, module, request_id: _ } = end;
    html! {
        tr {
            td.number { (attempt) }
            td { @match kind { Some(kind) => { span.bad { (kind) } } None => { span.good { "success" } } } }
            td { (time(*ended)) }
            td.number { (ms(*run_ms)) }
            td.number { (size(*peak_memory_bytes)) }
            td { @if let Some(module) = module { code { (module.short()) } } }
            td.reason { @if let Some(reason) = reason {
                @if reason.trim_end().contains('\n') {
                    details { summary { (line(reason, 120)) } pre tabindex="0" { (bounded(reason, REASON_BYTES)) } }
                } @else { (line(reason, 500)) }
            } }
        }
    }
}
