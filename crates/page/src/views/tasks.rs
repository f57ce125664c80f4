//! The tasks.

use maud::{Markup, html};
use wasq_protocol::{LiveRecord, Rejection, Version};

use crate::data::Task;
use crate::form::address;
use crate::text::{bounded, line};
use crate::views::{fact, time};

/// The bytes of a reason that are shown.
const REASON_BYTES: usize = 16 << 10;

pub(crate) fn tasks(tasks: &[Task]) -> Markup {
    html! {
        h1 { "Tasks" }
        @if tasks.is_empty() {
            p { "There is no task. " code { "wasq push FILE.wasm" } " makes one live." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Tasks" { table {
                thead { tr { th { "task" } th { "state" } th.number { "version" } th { "live since" } th { "module" } th { "last upload" } } }
                tbody { @for task in tasks { (row(task)) } }
            } }
        }
    }
}

fn row(task: &Task) -> Markup {
    let Task { name, record, rejected } = task;
    html! {
        tr {
            td { a href=(format!("/tasks/{name}")) { (name) } }
            td { (standing(record.as_ref())) }
            td.number { @if let Some(record) = record { (record.version.version) } }
            td { @if let Some(record) = record { (time(record.version.published)) } }
            td { @if let Some(record) = record { code { (record.version.digest.short()) } } }
            td.reason { @match rejected {
                Some(rejected) => { span.bad { "refused" } " " (line(&rejected.reason, 120)) }
                None => { span.note { "taken" } }
            } }
        }
    }
}

fn standing(record: Option<&LiveRecord>) -> Markup {
    match record {
        Some(record) if record.removed.is_none() => html! { span.good { "live" } },
        Some(_) => html! { span.note { "removed" } },
        None => html! { span.note { "never live" } },
    }
}

pub(crate) fn task(task: &Task) -> Markup {
    let Task { name, record, rejected } = task;
    html! {
        h1 { (name) " " (standing(record.as_ref())) }
        nav.spans aria-label="Of this task" { a href=(address("/runs", &[("task", Some(name.as_str()))])) { "Its runs" } a href=(format!("/send?task={name}")) { "Send a message" } }
        @if let Some(Rejection { reason, at, fault, digest, .. }) = rejected {
            h2 { @if *fault { "The last upload is not live yet" } @else { "The last upload was refused" } }
            dl.facts {
                (fact("at", Some(time(*at))))
                (fact("module", digest.map(|digest| html! { code { (digest.short()) } })))
            }
            pre.reason tabindex="0" { (bounded(reason, REASON_BYTES)) }
        }
        @if let Some(record) = record {
            h2 { "Settings" }
            pre tabindex="0" { (settings(&record.version)) }
            h2 { "Versions" }
            div.scroll tabindex="0" role="region" aria-label="Versions" { table {
                thead { tr { th.number { "version" } th { "published" } th { "module" } th { "world" } th.number { "artifacts" } } }
                tbody {
                    @for version in std::iter::once(&record.version).chain(&record.history) {
                        tr {
                            td.number { (version.version) }
                            td { (time(version.published)) }
                            td { code { (version.digest.short()) } }
                            td { (line(&version.world, 80)) }
                            td.number { (version.artifacts.len()) }
                        }
                    }
                }
            } }
        }
    }
}

fn settings(version: &Version) -> String {
    bounded(&version.settings.to_toml(), REASON_BYTES)
}
