//! The tasks.

use maud::{Markup, html};
use wasq_protocol::{LiveRecord, Rejection, TaskName, Version};

use crate::data::Task;
use crate::form::address;
use crate::text::{bounded, line, size};
use crate::views::{fact, time};

/// The characters of the languages and tools of a version that are shown.
const MADE_WITH_CHARS: usize = 200;

/// An act on a task that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Uploaded,
    Rollback,
    Removed,
}

impl Asked {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "uploaded" => Some(Self::Uploaded),
            "rollback" => Some(Self::Rollback),
            "removed" => Some(Self::Removed),
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Uploaded => {
                "The component is uploaded. The publisher checks it now; this page shows when it is live, or why not."
            }
            Self::Rollback => "The earlier version is uploaded again. This page shows when it is live.",
            Self::Removed => "The task is withdrawn. This page shows when it is removed.",
        }
    }
}

/// The bytes of a reason that are shown.
const REASON_BYTES: usize = 16 << 10;

pub(crate) fn tasks(tasks: &[Task]) -> Markup {
    html! {
        h1 { "Tasks" }
        (upload(None))
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
                Some(rejected) if rejected.fault => { span.note { "not live yet" } " " (line(&rejected.reason, 120)) }
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

/// A place for components that are dropped, or chosen; the script sends them. `task`: the task that each becomes; `None`: it has the name of
/// the file.
fn upload(task: Option<&TaskName>) -> Markup {
    html! {
        form.upload data-upload=(task.map_or("", |task| task.as_str())) {
            label {
                @match task {
                    Some(task) => { "Upload a new version of " (task) ": drop a .wasm file here, or choose one" }
                    None => { "Upload a task: drop NAME.wasm here, or choose it" }
                }
                input type="file" accept=".wasm";
            }
            p.said role="status" hidden {}
        }
    }
}

/// Asks before a task is removed.
pub(crate) fn sure(name: &TaskName) -> Markup {
    html! {
        h1 { "Remove " (name) "?" }
        p { "Nothing runs under its name any more. Its messages become dead letters after a minute. Its versions stay, and each can be brought back." }
        form method="post" action="/act/remove" {
            input type="hidden" name="task" value=(name);
            input type="hidden" name="sure" value="yes";
            button.bad { "Remove" }
            a href=(format!("/tasks/{name}")) { "Back" }
        }
    }
}

pub(crate) fn task(task: &Task, asked: Option<Asked>) -> Markup {
    let Task { name, record, rejected } = task;
    let is_live = record.as_ref().is_some_and(|record| record.removed.is_none());
    html! {
        h1 { (name) " " (standing(record.as_ref())) }
        @if let Some(asked) = asked { p.said role="status" { (asked.text()) } }
        nav.spans aria-label="Of this task" { a href=(address("/runs", &[("task", Some(name.as_str()))])) { "Its runs" } a href=(format!("/send?task={name}")) { "Send a message" } }
        @if let Some(Rejection { reason, at, fault, digest, .. }) = rejected {
            h2 { @if *fault { "The last upload is not live yet" } @else { "The last upload was refused" } }
            dl.facts {
                (fact("at", Some(time(*at))))
                (fact("module", digest.map(|digest| html! { code { (digest.short()) } })))
            }
            pre.reason tabindex="0" { (bounded(reason, REASON_BYTES)) }
        }
        (upload(Some(name)))
        @if let Some(record) = record {
            h2 { "Settings" }
            pre tabindex="0" { (settings(&record.version)) }
            @if let Some(schema) = &record.version.schema {
                h2 { "Schema" }
                pre tabindex="0" { (bounded(&format!("{schema:#}"), REASON_BYTES)) }
            }
            h2 { "Versions" }
            (versions(record))
            @if is_live { form method="post" action="/act/remove" {
                button.bad name="task" value=(name) { "Remove this task" }
            } }
        }
    }
}

fn versions(record: &LiveRecord) -> Markup {
    let versions = || std::iter::once(&record.version).chain(&record.history);
    // On one machine, nobody says who uploads.
    let has_uploaders = versions().any(|version| version.uploader.is_some());
    let is_live = |version: &Version| record.removed.is_none() && version.version == record.version.version;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Versions" { table {
            thead { tr {
                th.number { "version" }
                th { "published" }
                @if has_uploaders { th { "uploaded by" } }
                th { "module" }
                th.number { "size" }
                th { "made with" }
                th { "act" }
            } }
            tbody {
                @for version in versions() {
                    tr {
                        td.number { (version.version) }
                        td { (time(version.published)) }
                        @if has_uploaders { td.wrap { (line(version.uploader.as_deref().unwrap_or_default(), Version::UPLOADER_CHARS_MAX)) } }
                        td { code { (version.digest.short()) } }
                        td.number { @if let Some(bytes) = version.bytes { (size(bytes)) } }
                        td.wrap { (line(&version.made_with.join(", "), MADE_WITH_CHARS)) }
                        td {
                            @if is_live(version) { span.good { "live" } }
                            @else { form method="post" action="/act/rollback" {
                                input type="hidden" name="task" value=(record.task);
                                button name="version" value=(version.version) { "Bring back" }
                            } }
                        }
                    }
                }
            }
        } }
    }
}

fn settings(version: &Version) -> String {
    bounded(&version.settings.to_toml(), REASON_BYTES)
}
