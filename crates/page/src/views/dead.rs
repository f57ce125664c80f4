//! The dead letters, in groups.

use maud::{Markup, html};
use wasq_protocol::Digest;

use crate::data::{Group, Letter};
use crate::form::address;
use crate::json::tree;
use crate::text::{bounded, count, line, size};
use crate::views::{fact, run_link, task_link, time};

/// The letters that are listed in all groups together, and the bytes of a reason and of a body that are shown.
const LETTERS_SHOWN: usize = 60;
const REASON_BYTES: usize = 8 << 10;
const BODY_BYTES: usize = 2000;
/// The characters of a reason by which letters are put into groups.
const REASON_CHARS: usize = 200;

impl Group {
    /// Puts letters into groups; the largest group comes first.
    pub(crate) fn all(letters: Vec<Letter>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for letter in letters {
            let (task, kind, reason) = (letter.task(), letter.kind(), line(letter.reason(), REASON_CHARS));
            let same = |group: &&mut Self| group.task == task && group.kind == kind && group.reason == reason;
            match groups.iter_mut().find(same) {
                Some(group) => group.letters.push(letter),
                None => groups.push(Self { task, kind, reason, letters: vec![letter] }),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters.len()));
        groups
    }
}

pub(crate) fn dead(groups: &[Group], note: Option<&str>, done: Option<(&str, u64)>) -> Markup {
    let all: usize = groups.iter().map(|group| group.letters.len()).sum();
    html! {
        h1 { "Dead letters" }
        @if let Some((what, number)) = done { p.said role="status" { (count(number)) " " (what) "." } }
        @if groups.is_empty() { p { @if note.is_some() { "None was seen." } @else { "There are none." } } }
        @if all == Letter::SHOWN_MAX { p.note { "Only " (count(all as u64)) " are shown." } }
        @if let Some(note) = note { p.note { "Note: " (note) "." } }
        @let mut left = LETTERS_SHOWN;
        @for group in groups { (group_of(group, &mut left)) }
    }
}

/// Asks before letters are deleted.
pub(crate) fn sure(letters: &[String]) -> Markup {
    html! {
        h1 { "Delete " (count(letters.len() as u64)) " dead letter" @if letters.len() != 1 { "s" } "?" }
        p { "What is deleted is gone for good." }
        form method="post" action="/act/letters" {
            @for letter in letters { input type="hidden" name="letter" value=(letter); }
            input type="hidden" name="sure" value="yes";
            button.bad name="what" value="delete" { "Delete for good" }
            a href="/dead" { "Back" }
        }
    }
}

fn group_of(group: &Group, left: &mut usize) -> Markup {
    let Group { task, kind, reason, letters } = group;
    let shown = letters.len().min(*left);
    *left -= shown;
    html! {
        section.group {
            h2 { (count(letters.len() as u64)) " × " (task_link(task.as_ref())) " " span.bad { (kind) } }
            pre.reason tabindex="0" { (reason) }
            form method="post" action="/act/letters" {
                @for letter in letters { input type="hidden" name="letter" value=(letter.message_id); }
                button name="what" value="redrive" { "Redrive " @if letters.len() > 1 { "all " (letters.len()) } }
                button.bad name="what" value="delete" { "Delete" @if letters.len() > 1 { " all" } }
            }
            details id=(name(group)) {
                summary { "Letters" }
                @for each in letters.iter().take(shown) { (letter(each)) }
                @if shown < letters.len() { p.note { (letters.len() - shown) " more are not shown: " code { "wasq dlq show" } " does." } }
            }
        }
    }
}

/// The same name for a group whenever the page is made.
fn name(group: &Group) -> String {
    let Group { task, kind, reason, .. } = group;
    let task = task.as_ref().map_or("", |task| task.as_str());
    format!("group-{}", Digest::of(format!("{task}\0{kind}\0{reason}").as_bytes()).short())
}

fn letter(letter: &Letter) -> Markup {
    let id = letter.id();
    html! {
        article {
            h3 { (run_link(&id)) }
            dl.facts {
                (fact("failed", letter.notes.failed.map(time)))
                (fact("attempts", letter.notes.attempts.map(|attempts| html! { (attempts) })))
                (fact("module", letter.notes.digest.map(|digest| html! { code { (digest.short()) } })))
                (fact("redriven before", (!letter.notes.history.is_empty()).then(|| html! { (letter.notes.history.len()) " times" })))
            }
            @if letter.reason().trim_end().contains('\n') || letter.reason().len() > REASON_CHARS {
                pre.reason tabindex="0" { (bounded(letter.reason(), REASON_BYTES)) }
            }
            @if letter.body_bytes > letter.body.len() as u64 {
                pre tabindex="0" { (bounded(&letter.body, BODY_BYTES)) "…" }
                p.note { "The message has " (size(letter.body_bytes)) "." }
            } @else { (tree(&letter.body)) }
            form method="post" action="/act/letters" {
                input type="hidden" name="letter" value=(letter.message_id);
                button name="what" value="redrive" { "Redrive" }
                button.bad name="what" value="delete" { "Delete" }
                " " a href=(address("/send", &[("letter", Some(&letter.message_id))])) { "Edit and send" }
            }
        }
    }
}
