//! Findings: the problem, its effect, and the fix.

use crate::doctor::configuration::Place;

/// A setting or a resource that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) effect: Effect,
    /// The resource.
    pub(crate) resource: String,
    /// The problem with the resource.
    pub(crate) problem: String,
    /// The fix, as people read it.
    pub(crate) fix: String,
}

/// The fix for a finding.
#[derive(Clone, Debug)]
pub(super) enum Fix {
    /// A command of the AWS CLI, without its first word.
    Aws(String),
    /// A command of `wasq`, and its own options.
    Wasq(&'static str, String),
    /// Advice in words.
    Advice(&'static str),
}

impl Fix {
    /// The fix with the options that say which wasq is meant.
    fn text(self, place: &Place) -> String {
        let Place { aws, wasq } = place;
        let words = match self {
            Self::Aws(command) => ["aws", aws, &command].map(str::to_owned),
            Self::Wasq(command, options) => [format!("wasq {command}"), wasq.clone(), options],
            Self::Advice(advice) => return advice.to_owned(),
        };
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// The effect of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// Messages are lost.
    Loses,
    /// Nothing runs, or nothing goes live.
    Stops,
    /// Tasks run more than once for no good reason.
    Duplicates,
    /// Somebody has access that they should not have.
    Exposes,
    /// It costs more and more.
    Costs,
}

impl Effect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loses => "loses",
            Self::Stops => "stops",
            Self::Duplicates => "duplicates",
            Self::Exposes => "exposes",
            Self::Costs => "costs",
        }
    }
}

/// The findings so far.
pub(super) struct Findings<'a> {
    place: &'a Place,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    /// `place` says which wasq the commands of fixes are about.
    pub(super) fn new(place: &'a Place) -> Self {
        Self { place, found: Vec::new() }
    }

    /// The findings, the worst effects first.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|finding| finding.effect);
        self.found
    }

    pub(super) fn add(
        &mut self,
        effect: Effect,
        resource: impl Into<String>,
        problem: impl Into<String>,
        fix: Fix,
    ) {
        let (resource, problem) = (resource.into(), problem.into());
        self.found.push(Finding { effect, resource, problem, fix: fix.text(self.place) });
    }
}
