//! Sending a message.

use maud::{Markup, html};
use wasq_protocol::TaskName;

use crate::fields::{self, Field, Kind};
use crate::form::address;
use crate::once;
use crate::text::line;

/// The fields of the form, as they were filled in, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    pub(crate) task: String,
    pub(crate) params: String,
    /// The params, each in a field of its own, if the schema of the task says them.
    pub(crate) fields: Option<Vec<Field>>,
    pub(crate) id: String,
    pub(crate) delay: String,
    /// The queue's id of the dead letter that is deleted when the message is sent.
    pub(crate) letter: Option<String>,
    pub(crate) wrong: Option<String>,
}

/// The form. `with_fields` are the tasks whose params can be filled in one by one.
pub(crate) fn send(filled: &Filled, tasks: &[TaskName], with_fields: &[TaskName]) -> Markup {
    let Filled { task, params, fields, id, delay, letter, wrong } = filled;
    html! {
        h1 { "Send a message" }
        @if let Some(wrong) = wrong { p.said.bad role="alert" { (wrong) } }
        @if letter.is_some() { p { "The message is sent as a new one, with an id of its own. The dead letter is deleted then." } }
        form.send method="post" action="/act/send" {
            (once::field())
            @if let Some(letter) = letter { input type="hidden" name="letter" value=(letter); }
            @if let Some(fields) = fields {
                input type="hidden" name="task" value=(task);
                input type="hidden" name="as" value="fields";
                p { "Task " b { (task) } ". " a href=(address("/send", &[("task", Some(task)), ("as", Some("json"))])) { "Write the params as JSON" } }
                @for field in fields { (param(field)) }
            } @else {
                label { "Task" input name="task" list="tasks" value=(task) required autocomplete="off"; }
                datalist #tasks { @for task in tasks { option value=(task) {} } }
                @if !with_fields.is_empty() && letter.is_none() {
                    p { "With a field for each param: "
                        @for (i, name) in with_fields.iter().enumerate() {
                            @if i > 0 { ", " }
                            a href=(address("/send", &[("task", Some(name.as_str()))])) { (name) }
                        }
                    }
                }
                label { "Params, as JSON" textarea name="params" rows="10" spellcheck="false" {
                    @if params.is_empty() { "{}" } @else { (params) }
                } }
            }
            label { "Id (without one, the queue gives one)" input name="id" value=(id) autocomplete="off"; }
            label { "Delay, such as 90s, 2h or 30d" input name="delay" value=(delay) autocomplete="off"; }
            button { "Send" }
        }
    }
}

/// The field of a param.
fn param(field: &Field) -> Markup {
    let Field { key, kind, required, description, default, value } = field;
    let name = fields::name(key);
    let hint = match (required, default) {
        (true, _) => String::new(),
        (false, Some(default)) => format!(" (without one: {})", line(default, 60)),
        (false, None) => " (optional)".to_owned(),
    };
    html! {
        label {
            span { b { (line(key, 100)) } (hint) }
            @if let Some(description) = description { small { (line(description, 500)) } }
            @match kind {
                Kind::Text => input name=(name) value=(value) autocomplete="off";,
                Kind::Number => input name=(name) value=(value) inputmode="decimal" required[*required] autocomplete="off";,
                Kind::Choice(values) => select name=(name) {
                    @if !required { option value="" { "" } }
                    @for choice in values {
                        @let choice = fields::shown(choice);
                        option value=(choice) selected[choice == *value] { (line(&choice, 100)) }
                    }
                },
                Kind::Json => textarea name=(name) rows="3" spellcheck="false" placeholder="JSON" required[*required] { (value) },
            }
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
        p.said role="status" { "The message is in the queue. Its id is " b.id { (line(id, 200)) } ". No worker has had it yet." }
        p { a href=(format!("/runs/{}?sent=1", crate::form::encoded(id))) { "Look again" } }
    }
}
