//! The dead letters, in groups.

use maud::{Markup, html};

use crate::data::{Group, Letter};
use crate::json::tree;
use crate::text::{bounded, count, line};
use crate::views::{fact, run_link, task_link, time};

/// The letters of a group that are listed, and the bytes of a reason that are shown.
const LETTERS_SHOWN: usize = 50;
const REASON_BYTES: usize = 8 << 10;
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

pub(crate) fn dead(groups: &[Group], done: Option<(&str, u64)>) -> Markup {
    let all: usize = groups.iter().map(|group| group.letters.len()).sum();
    html! {
        h1 { "Dead letters" }
        @if let Some((what, number)) = done { p.said role="status" { (count(number)) " " (what) "." } }
        @if groups.is_empty() { p { "There are none." } }
        @if all == Letter::SHOWN_MAX { p { "These are the newest " (Letter::SHOWN_MAX) "." } }
        @for (number, group) in groups.iter().enumerate() { (group_of(group, number)) }
    }
}

fn group_of(group: &Group, number: usize) -> Markup {
    let Group { task, kind, reason, letters } = group;
    html! {
        section.group {
            h2 { (count(letters.len() as u64)) " × " (task_link(task.as_ref())) " " span.bad { (kind) } }
            pre.reason tabindex="0" { (reason) }
            form method="post" action="/act/letters" {
                @for letter in letters { input type="hidden" name="letter" value=(letter.message_id); }
                button name="what" value="redrive" { "Redrive " @if letters.len() > 1 { "all " (letters.len()) } }
                button.bad name="what" value="delete" data-ask="Delete these dead letters for good?" { "Delete" @if letters.len() > 1 { " all" } }
            }
            details id=(format!("group-{number}")) {
                summary { "Letters" }
                @for each in letters.iter().take(LETTERS_SHOWN) { (letter(each)) }
                @if letters.len() > LETTERS_SHOWN { p.note { "The newest " (LETTERS_SHOWN) " are shown." } }
            }
        }
    }
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
            (tree(&letter.body))
            form method="post" action="/act/letters" {
                input type="hidden" name="letter" value=(letter.message_id);
                button name="what" value="redrive" { "Redrive" }
                button.bad name="what" value="delete" data-ask="Delete this dead letter for good?" { "Delete" }
            }
        }
    }
}
