//! The list of runs.

use std::time::Duration;

use maud::{Markup, html};
use wasq_protocol::{FailureKind, ItemState, RunItem, TaskName, format_duration};

use crate::data::{Page, Search};
use crate::form::address;
use crate::text::{line, ms};
use crate::views::{run_link, state, task_link, time};

/// The times to choose from, with their words.
const WITHIN: [(Duration, &str); 4] = [
    (Duration::from_mins(15), "15 minutes"),
    (Duration::from_hours(1), "an hour"),
    (Duration::from_hours(24), "a day"),
    (Duration::from_hours(7 * 24), "a week"),
];

pub(crate) fn runs(page: &Page, search: &Search, tasks: &[TaskName]) -> Markup {
    let Search { task, state: wanted, kind, parent, within, before } = search;
    let within_text = within.map(format_duration);
    let page_from = |before| {
        let fields = [
            ("task", task.as_ref().map(TaskName::as_str)),
            ("state", wanted.map(ItemState::as_str)),
            ("kind", kind.map(FailureKind::as_str)),
            ("parent", parent.as_deref()),
            ("within", within_text.as_deref()),
            ("before", before),
        ];
        address("/runs", &fields)
    };
    html! {
        h1 { "Runs" }
        form.filter method="get" action="/runs" role="search" {
            label { "Task" input name="task" list="tasks" value=[task.as_ref()] autocomplete="off"; }
            datalist #tasks { @for task in tasks { option value=(task) {} } }
            label { "State" select name="state" {
                option value="" { "any" }
                @for each in ItemState::ALL { option value=(each) selected[Some(each) == *wanted] { (each) } }
            } }
            label { "Last failure" select name="kind" {
                option value="" { "any" }
                @for each in FailureKind::ALL { option value=(each) selected[Some(each) == *kind] { (each) } }
            } }
            label { "Begun within" select name="within" {
                option value="" { "any time" }
                @for (each, words) in WITHIN { option value=(format_duration(each)) selected[Some(each) == *within] { (words) } }
            } }
            label { "Id, or id of the parent" input name="id" value=[parent.as_ref()] autocomplete="off"; }
            button { "Search" }
        }
        @if let Some(parent) = parent { p { "Children of " (run_link(parent)) ". " a href="/runs" { "All runs" } } }
        @if let Some(note) = &page.note { p.note { (note) } }
        @if page.runs.is_empty() {
            p { "No run is remembered that matches." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Runs" { table.runs {
                thead { tr { th { "state" } th { "task" } th { "id" } th.number { "attempts" } th { "started" } th.number { "run" } th { "reason" } } }
                tbody { @for run in &page.runs { (row(run)) } }
            } }
        }
        nav.pages aria-label="Pages" {
            @if before.is_some() { a href=(page_from(None)) { "Newest" } }
            @if let Some(next) = &page.next { a href=(page_from(Some(next))) rel="next" { "Older" } }
        }
    }
}

fn row(run: &RunItem) -> Markup {
    let last = run.history.last();
    html! {
        tr {
            td { (state(run.state)) }
            td { (task_link(run.task.as_ref())) }
            td.id { (run_link(&run.id)) }
            td.number { (run.attempts) }
            td { @if let Some(started) = run.started { (time(started)) } }
            td.number { @if let Some(last) = last { (ms(last.run_ms)) } }
            td.reason { @if let (Some(kind), true) = (run.kind, run.state != ItemState::Done) {
                b { (kind) } " " (line(run.reason.as_deref().unwrap_or_default(), 120))
            } }
        }
    }
}
