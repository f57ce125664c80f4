//! The schedules.

use maud::{Markup, html};
use wasq_protocol::ScheduleState;

use crate::once;
use crate::text::line;
use crate::views::{run_link, time};

/// An act on a schedule that was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Paused(String),
    Resumed(String),
    /// The id of the message.
    Fired(String),
}

pub(crate) fn schedules(schedules: &[ScheduleState], asked: Option<&Asked>) -> Markup {
    html! {
        h1 { "Schedules" }
        @match asked {
            Some(Asked::Paused(name)) => p.said role="status" { (line(name, 100)) " is paused." },
            Some(Asked::Resumed(name)) => p.said role="status" { (line(name, 100)) " goes on." },
            Some(Asked::Fired(id)) => p.said role="status" { "Sent: " (run_link(id)) },
            None => {}
        }
        @if schedules.is_empty() {
            p { "No live task has a schedule. " code { "[[schedule]]" } " in the settings of a task makes one." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Schedules" { table {
                thead { tr { th { "schedule" } th { "task" } th { "fires" } th { "next" } th { "params" } th { "act" } } }
                tbody { @for state in schedules { (row(state)) } }
            } }
        }
    }
}

fn row(state: &ScheduleState) -> Markup {
    let ScheduleState { name, task, schedule, paused, next } = state;
    html! {
        tr {
            td { (name) }
            td { a href=(format!("/tasks/{task}")) { (task) } }
            td { (line(&schedule.when.to_string(), 80)) }
            td { @match next {
                _ if *paused => { span.bad { "paused" } }
                Some(next) => { (time(*next)) }
                None => { span.note { "never again" } }
            } }
            td.reason { code { (line(&schedule.params.to_string(), 120)) } }
            td {
                form method="post" action="/act/schedule" {
                    (once::field())
                    input type="hidden" name="name" value=(name);
                    button name="what" value="fire" { "Send now" }
                }
                form method="post" action="/act/schedule" {
                    input type="hidden" name="name" value=(name);
                    @if *paused { button name="what" value="resume" { "Resume" } }
                    @else { button name="what" value="pause" { "Pause" } }
                }
            }
        }
    }
}
