//! The views: each makes the inside of a page.

pub(crate) mod dead;
pub(crate) mod overview;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod send;
pub(crate) mod tasks;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use wasq_protocol::{ItemState, TaskName, Timestamp};

use crate::form::{address, encoded};
use crate::text::instant;

/// The views that the head of each page links to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Overview,
    Runs,
    Tasks,
    Schedules,
    Dead,
    Send,
    /// None of them.
    Other,
}

impl View {
    const LINKS: [(Self, &str, &str); 6] = [
        (Self::Overview, "/", "Overview"),
        (Self::Runs, "/runs", "Runs"),
        (Self::Tasks, "/tasks", "Tasks"),
        (Self::Schedules, "/schedules", "Schedules"),
        (Self::Dead, "/dead", "Dead letters"),
        (Self::Send, "/send", "Send"),
    ];
}

/// A whole page. `live`: it is shown anew when something has changed more often than this.
pub(crate) fn whole(view: View, title: &str, live: Option<u64>, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · wasq" }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="data:,";
                script src="/assets/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" { "wasq" }
                    nav aria-label="Views" {
                        @for (link, href, name) in View::LINKS {
                            a href=(href) aria-current=[(link == view).then_some("page")] { (name) }
                        }
                    }
                    @if live.is_some() { span #live hidden { "live" } }
                }
                main #main data-live=[live] { (main) }
            }
        }
    };
    page.into_string()
}

/// A page without a view of its own: a title and a text.
pub(crate) fn notice(title: &str, text: &str) -> String {
    whole(View::Other, title, None, &html! { h1 { (title) } p { (text) } })
}

/// A page for somebody who may not see the others.
pub(crate) fn closed(why: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "wasq" }
            }
            body { h1 { "wasq" } p { (why) } }
        }
    };
    page.into_string()
}

/// An instant, which the script shows in the time zone of the reader.
pub(crate) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (instant(at)) } }
}

/// A state as a mark.
pub(crate) fn state(state: ItemState) -> Markup {
    html! { span class=(format!("state {state}")) { (state) } }
}

/// The address of a run. Browsers would take two ids for parts of the address itself.
pub(crate) fn run_address(id: &str) -> String {
    match id {
        "." | ".." | "" => address("/run", &[("id", Some(id))]),
        id => format!("/runs/{}", encoded(id)),
    }
}

/// A link to a run.
pub(crate) fn run_link(id: &str) -> Markup {
    html! { a href=(run_address(id)) { (crate::text::line(id, 60)) } }
}

/// A link to the runs of a task.
pub(crate) fn task_link(task: Option<&TaskName>) -> Markup {
    match task {
        Some(task) => html! { a href=(address("/runs", &[("task", Some(task.as_str()))])) { (task) } },
        None => html! { span.note { "none" } },
    }
}

/// A row of a list of facts, if there is a value.
pub(crate) fn fact(name: &str, value: Option<Markup>) -> Markup {
    match value {
        Some(value) => html! { div { dt { (name) } dd { (value) } } },
        None => PreEscaped(String::new()),
    }
}
