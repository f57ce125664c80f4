//! Sending a message.

use maud::{Markup, html};
use wasq_protocol::TaskName;

/// The fields of the form, as they were filled in, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    pub(crate) task: String,
    pub(crate) params: String,
    pub(crate) id: String,
    pub(crate) delay: String,
    /// The queue's id of the dead letter that is deleted when the message is sent.
    pub(crate) letter: Option<String>,
    pub(crate) wrong: Option<String>,
}

pub(crate) fn send(filled: &Filled, tasks: &[TaskName]) -> Markup {
    let Filled { task, params, id, delay, letter, wrong } = filled;
    html! {
        h1 { "Send a message" }
        @if let Some(wrong) = wrong { p.said.bad role="alert" { (wrong) } }
        @if letter.is_some() { p { "The message is sent as a new one, with an id of its own. The dead letter is deleted then." } }
        form.send method="post" action="/act/send" {
            @if let Some(letter) = letter { input type="hidden" name="letter" value=(letter); }
            label { "Task" input name="task" list="tasks" value=(task) required autocomplete="off"; }
            datalist #tasks { @for task in tasks { option value=(task) {} } }
            label { "Params, as JSON" textarea name="params" rows="10" spellcheck="false" {
                @if params.is_empty() { "{}" } @else { (params) }
            } }
            label { "Id (without one, the queue gives one)" input name="id" value=(id) autocomplete="off"; }
            label { "Delay in seconds, up to 900" input name="delay" value=(delay) inputmode="numeric" autocomplete="off"; }
            button { "Send" }
        }
    }
}

/// The news of the dead letter that a message was sent instead of, if it is not just deleted.
pub(crate) fn of_letter(letter: Option<&str>) -> Markup {
    let text = match letter {
        Some("gone") => {
            "The message was sent. The dead letter was not there any more: somebody may have redriven it as well."
        }
        Some("kept") => "The message was sent. The dead letter could not be deleted, and is still there.",
        _ => return html! {},
    };
    html! { p.said.bad role="alert" { (text) } }
}

/// A message that was sent, and that no worker has had yet.
pub(crate) fn sent(id: &str, letter: Option<&str>) -> Markup {
    html! {
        h1 { "Sent" }
        (of_letter(letter))
        p.said role="status" { "The message is in the queue. Its id is " b.id { (crate::text::line(id, 200)) } ". No worker has had it yet." }
        p { a href=(format!("/runs/{}?sent=1", crate::form::encoded(id))) { "Look again" } }
    }
}
