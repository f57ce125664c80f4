//! The state of the whole.

use maud::{Markup, html};
use wasq_protocol::{Overview, Quantiles, TaskLoad};

use crate::data::Span;
use crate::form::address;
use crate::pictures::{durations, runs, spark};
use crate::text::{count, ms};
use crate::views::{task_link, time};

pub(crate) fn overview(overview: &Overview, span: Span) -> Markup {
    let Overview { counts, since, slices, failures, tasks, paused, note } = overview;
    let tile = |name: &str, value: String, href: Option<&str>, class: &str| {
        html! {
            div class=(format!("tile {class}")) {
                span.value { (value) }
                @if let Some(href) = href { a href=(href) { (name) } } @else { span { (name) } }
            }
        }
    };
    let delayed = count(counts.delayed) + if counts.delayed_or_more { " or more" } else { "" };
    html! {
        h1 { "Overview" }
        @if *paused == Some(true) {
            p.said.bad.stays role="status" { (Overview::PAUSED) }
        }
        div.tiles {
            (tile("waiting", count(counts.waiting), None, ""))
            (tile("in flight or retrying", count(counts.in_flight), None, ""))
            (tile("delayed", delayed, None, ""))
            (tile("dead letters", count(counts.dead), Some("/dead"), if counts.dead > 0 { "bad" } else { "" }))
        }
        div.row {
            nav.spans aria-label="Span of time" {
                @for (each, href, name) in [(Span::Hour, "/", "Last hour"), (Span::Day, "/?span=day", "Last day")] {
                    a href=(href) aria-current=[(each == span).then_some("true")] { (name) }
                }
            }
            span.note { "known since " (time(*since)) }
            @if let Some(paused) = paused {
                form method="post" action="/act/pause" {
                    @if *paused { button name="what" value="resume" { "Resume" } }
                    @else { button name="what" value="pause" { "Pause" } }
                }
            }
        }
        @if let Some(note) = note { p.note { (note) } }
        div.pictures {
            (runs(slices, span))
            (durations("Run", slices, span, |slice| slice.run))
            (durations("Wait before the first attempt", slices, span, |slice| slice.wait))
        }
        @if !failures.is_empty() {
            h2 { "Failed runs by kind" }
            ul.kinds {
                @for (kind, number) in failures {
                    li { a href=(address("/runs", &[("kind", Some(kind.as_str()))])) { (kind) } " " b { (count(*number)) } }
                }
            }
        }
        h2 { "Tasks" }
        @if tasks.is_empty() {
            p { "No task is live and none has run. " code { "wasq push FILE.wasm" } " makes one live." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Tasks" { table {
                thead { tr { th { "task" } th.number { "succeeded" } th.number { "failed" } th.number { "run, 50 %" } th.number { "99 %" } th { "runs over time" } } }
                tbody { @for task in tasks { (row(task)) } }
            } }
        }
    }
}

fn row(task: &TaskLoad) -> Markup {
    let TaskLoad { task, live, refused, succeeded, failed, run, by_slice } = task;
    let quantile = |of: fn(&Quantiles) -> f64| run.as_ref().map_or("–".to_owned(), |run| ms(of(run)));
    html! {
        tr {
            td {
                (task_link(Some(task)))
                @if !live { " " span.note { "not live" } }
                @if *refused { " " a.bad href=(format!("/tasks/{task}")) { "refused upload" } }
            }
            td.number { (count(*succeeded)) }
            td.number.bad[*failed > 0] { (count(*failed)) }
            td.number { (quantile(|run| run.p50)) }
            td.number { (quantile(|run| run.p99)) }
            td { (spark(by_slice)) }
        }
    }
}
