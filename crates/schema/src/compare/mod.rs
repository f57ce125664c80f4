//! Whether a schema takes all that another one takes.
//!
//! The comparison is careful: it may call a schema narrower that is not, because it is written in a very different way. A key that the
//! earlier schema does not name counts as one that nobody sends. Where several parts of a schema say something of the same object, or of
//! keys by a pattern, the later schema must say the same.

mod alike;

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::Value;

use crate::compile::{Bounds, Node, Type, escaped};
use crate::format::Format;
use crate::seen::short;
use crate::{Schema, apply};

use alike::says_only_parts;

/// The steps of a comparison, and its depth.
const STEPS: u64 = 2_000_000;
const DEPTH_MAX: usize = 100;

/// Where a schema takes less than an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrower {
    /// The place in the values, as a JSON Pointer; empty for the whole value. `*` stands for any key or item.
    pub pointer: String,
    /// The difference, in words.
    pub problem: String,
}

impl std::fmt::Display for Narrower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pointer, problem } = self;
        let place = if pointer.is_empty() { "the whole" } else { pointer };
        write!(f, "at {place}: {problem}")
    }
}

impl Schema {
    /// Checks that this schema takes every value that an earlier one takes. The error names the first place where it does not.
    pub fn takes_all_of(&self, earlier: &Schema) -> Result<(), Narrower> {
        let mut compare = Compare::new(&earlier.nodes, &self.nodes);
        compare.nodes(Side { node: 0, only: None }, 0, 0)
    }

    /// Checks that this schema takes every value.
    pub fn takes_anything(&self) -> Result<(), Narrower> {
        let any = Schema { nodes: vec![Node { takes_all: true, ..Node::default() }] };
        self.takes_all_of(&any)
    }
}

/// A part of the earlier schema, or only its values of one type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Side {
    node: usize,
    only: Option<Type>,
}

struct Compare<'s> {
    old: &'s [Node],
    new: &'s [Node],
    /// The pairs that are compared already, or are being compared, and the order in which they came.
    met: HashSet<(Side, usize)>,
    order: Vec<(Side, usize)>,
    /// The pairs whose later part is narrower: the rest of the place, and the problem.
    failed: HashMap<(Side, usize), (String, String)>,
    /// Pairs that say the same, or are being compared for that.
    same: HashSet<(usize, usize)>,
    /// Steps that are left.
    steps: u64,
    path: String,
}

const ALL_TYPES: [Type; 6] =
    [Type::Null, Type::Boolean, Type::Number, Type::String, Type::Array, Type::Object];

impl<'s> Compare<'s> {
    fn new(old: &'s [Node], new: &'s [Node]) -> Self {
        Self {
            old,
            new,
            met: HashSet::new(),
            order: Vec::new(),
            failed: HashMap::new(),
            same: HashSet::new(),
            steps: STEPS,
            path: String::new(),
        }
    }

    fn narrower(&self, problem: impl Into<String>) -> Result<(), Narrower> {
        Err(Narrower { pointer: self.path.clone(), problem: problem.into() })
    }

    /// Compares at a place below.
    fn below(&mut self, part: &str, old: Option<usize>, new: usize, depth: usize) -> Result<(), Narrower> {
        let before = self.path.len();
        let _ = write!(self.path, "/{part}");
        let compared = match old {
            Some(old) => self.nodes(Side { node: old, only: None }, new, depth + 1),
            // The earlier schema takes anything there.
            None if self.new[new].takes_all => Ok(()),
            None => self.narrower("the live version takes anything here"),
        };
        if compared.is_ok() {
            self.path.truncate(before);
        }
        compared
    }

    /// The problem of a comparison whose failure is no failure of the whole.
    fn tried(&mut self, old: Side, new: usize, depth: usize) -> Result<(), Narrower> {
        let (path, met) = (self.path.len(), self.order.len());
        let tried = self.nodes(old, new, depth);
        if tried.is_err() {
            self.path.truncate(path);
            // The pairs that held only beside it must be compared again.
            for pair in self.order.drain(met..) {
                self.met.remove(&pair);
            }
        }
        tried
    }

    fn nodes(&mut self, side: Side, new: usize, depth: usize) -> Result<(), Narrower> {
        self.steps = self.steps.saturating_sub(1);
        if depth > DEPTH_MAX || self.steps == 0 {
            return self.narrower("the schemas are too large to be compared");
        }
        if self.new[new].takes_all || self.old[side.node].never {
            return Ok(());
        }
        if let Some((rest, problem)) = self.failed.get(&(side, new)) {
            return Err(Narrower { pointer: format!("{}{rest}", self.path), problem: problem.clone() });
        }
        if !self.met.insert((side, new)) {
            return Ok(());
        }
        self.order.push((side, new));
        let before = self.path.len();
        let compared = self.parts(side, new, depth);
        if let Err(Narrower { pointer, problem }) = &compared {
            let rest = pointer.get(before..).unwrap_or_default().to_owned();
            self.failed.insert((side, new), (rest, problem.clone()));
        }
        compared
    }

    fn parts(&mut self, side: Side, new: usize, depth: usize) -> Result<(), Narrower> {
        let (old_nodes, new_nodes) = (self.old, self.new);
        let (old, wanted) = (&old_nodes[side.node], &new_nodes[new]);
        if wanted.never {
            return self.narrower("nothing fits any more");
        }
        // A few values: each is tried.
        if let Some(values) = &old.one_of_values {
            return self.values(values, side, new);
        }
        // A reference, or several forms, and nothing beside that.
        if says_only_parts(old) {
            if let [only] = old.all_of[..]
                && old.any_of.is_empty()
                && old.one_of.is_empty()
            {
                return self.nodes(Side { node: only, only: side.only }, new, depth + 1);
            }
            if old.all_of.is_empty() && old.any_of.is_empty() != old.one_of.is_empty() {
                let mut forms = old.any_of.iter().chain(&old.one_of);
                return forms
                    .try_for_each(|form| self.nodes(Side { node: *form, only: side.only }, new, depth + 1));
            }
        }
        let is_mixed = !(old.all_of.is_empty() && old.any_of.is_empty() && old.one_of.is_empty());
        let has_parts = |one: &Type| matches!(one, Type::Object | Type::Array);
        if is_mixed && self.types(side).iter().any(has_parts) {
            // Each part may name keys.
            return match self.same(side.node, new, depth) {
                true => Ok(()),
                false => self.narrower("it is made of several parts, and they have changed"),
            };
        }
        self.new_forms(side, wanted, depth)?;
        for part in &wanted.all_of {
            self.nodes(side, *part, depth + 1)?;
        }
        self.own(side, old, wanted, depth)
    }

    /// Tries the values that the earlier schema takes.
    fn values(&mut self, values: &[Value], side: Side, new: usize) -> Result<(), Narrower> {
        for value in values.iter().filter(|value| side.only.is_none_or(|only| is_of(value, only))) {
            match apply::takes(self.new, new, &value.to_string(), &mut self.steps) {
                Some(true) => {}
                Some(false) => return self.narrower(format!("it refuses {}", short(&value.to_string()))),
                None => return self.narrower("the schemas are too large to be compared"),
            }
        }
        Ok(())
    }

    /// The types of a side.
    fn types(&self, side: Side) -> Vec<Type> {
        let own = self.old[side.node].types.clone().unwrap_or_else(|| ALL_TYPES.to_vec());
        let Some(only) = side.only else { return own };
        // Both say something: a whole number is the narrower one.
        let both = |own: Type| match (own, only) {
            _ if is_within(own, only) => Some(own),
            _ if is_within(only, own) => Some(only),
            _ => None,
        };
        own.into_iter().filter_map(both).collect()
    }

    /// Some form of the newer schema must take the values of each type.
    fn new_forms(&mut self, side: Side, wanted: &Node, depth: usize) -> Result<(), Narrower> {
        if !self.are_apart(&wanted.one_of) {
            return self.narrower("it takes what fits exactly one of several forms, and these may overlap");
        }
        for forms in [&wanted.any_of, &wanted.one_of] {
            if forms.is_empty() {
                continue;
            }
            for only in self.types(side) {
                let side = Side { node: side.node, only: Some(only) };
                let mut first = None;
                for form in forms {
                    match self.tried(side, *form, depth + 1) {
                        Ok(()) => {
                            first = None;
                            break;
                        }
                        Err(problem) => {
                            // The one that came farthest says most.
                            if first
                                .as_ref()
                                .is_none_or(|first: &Narrower| first.pointer.len() < problem.pointer.len())
                            {
                                first = Some(problem);
                            }
                        }
                    }
                }
                if let Some(problem) = first {
                    return Err(problem);
                }
            }
        }
        Ok(())
    }

    /// Compares everything but the parts that other nodes say.
    fn own(&mut self, side: Side, old: &Node, wanted: &Node, depth: usize) -> Result<(), Narrower> {
        let types = self.types(side);
        if let Some(allowed) = &wanted.types
            && let Some(refused) =
                types.iter().find(|one| !allowed.iter().any(|allowed| is_within(**one, *allowed)))
        {
            return self.narrower(format!("it refuses {}", apply::name_of(*refused)));
        }
        if wanted.one_of_values.is_some() {
            return self.narrower("it takes only some values, and the live version takes others");
        }
        let has = |one: Type| types.contains(&one);
        if has(Type::Number) || has(Type::Integer) {
            self.numbers(old, wanted)?;
        }
        if has(Type::String) {
            self.bounds(&old.length, &wanted.length, "characters")?;
            if let Some(pattern) = &wanted.pattern
                && old.pattern.as_ref().is_none_or(|old| old.text != pattern.text)
            {
                return self.narrower(format!("it wants the pattern {}", pattern.text));
            }
            if let Some(Format::Text { words, .. }) = wanted.format
                && !matches!(old.format, Some(Format::Text { words: old, .. }) if old == words)
            {
                return self.narrower(format!("it wants {words}"));
            }
        }
        if has(Type::Array) {
            self.arrays(old, wanted, depth)?;
        }
        if has(Type::Object) {
            self.objects(old, wanted, depth)?;
        }
        match wanted.not {
            Some(_) if !self.same_parts(old.not, wanted.not, depth) => {
                self.narrower("it excludes some values")
            }
            _ => Ok(()),
        }
    }

    fn numbers(&self, old: &Node, wanted: &Node) -> Result<(), Narrower> {
        let (least, most) = limits(old);
        let new = &wanted.numbers;
        if let Some(minimum) = new.minimum.filter(|minimum| least < *minimum) {
            return self.narrower(format!("it takes at least {minimum}"));
        }
        if let Some(maximum) = new.maximum.filter(|maximum| most > *maximum) {
            return self.narrower(format!("it takes at most {maximum}"));
        }
        let is_above = |above: f64| least > above || old.numbers.above.is_some_and(|old| old >= above);
        if let Some(above) = new.above.filter(|above| !is_above(*above)) {
            return self.narrower(format!("it takes more than {above}"));
        }
        let is_below = |below: f64| most < below || old.numbers.below.is_some_and(|old| old <= below);
        if let Some(below) = new.below.filter(|below| !is_below(*below)) {
            return self.narrower(format!("it takes less than {below}"));
        }
        if let Some(factor) = new.multiple_of
            && old.numbers.multiple_of.is_none_or(|old| (old / factor).fract() != 0.0)
        {
            return self.narrower(format!("it takes multiples of {factor}"));
        }
        if let Some(Format::Whole { name, least, most }) = wanted.format {
            let fits = matches!(old.format, Some(Format::Whole { least: a, most: b, .. }) if a >= least && b <= most);
            if !fits {
                return self.narrower(format!("it takes whole numbers of the type {name}"));
            }
        }
        Ok(())
    }

    fn bounds(&self, old: &Bounds, new: &Bounds, what: &str) -> Result<(), Narrower> {
        if let Some(least) = new.least.filter(|least| old.least.unwrap_or(0) < *least) {
            return self.narrower(format!("it takes at least {least} {what}"));
        }
        if let Some(most) = new.most.filter(|most| old.most.is_none_or(|old| old > *most)) {
            return self.narrower(format!("it takes at most {most} {what}"));
        }
        Ok(())
    }

    fn arrays(&mut self, old: &Node, wanted: &Node, depth: usize) -> Result<(), Narrower> {
        self.bounds(&old.count, &wanted.count, "items")?;
        if wanted.unique && !old.unique {
            return self.narrower("it takes each item only once");
        }
        let most = old.count.most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let places = old.prefix.len().max(wanted.prefix.len()).min(most);
        for place in 0..places {
            let Some(new) = wanted.prefix.get(place).copied().or(wanted.items) else { break };
            let old = old.prefix.get(place).copied().or(old.items);
            self.below(&place.to_string(), old, new, depth)?;
        }
        match wanted.items {
            Some(new) if most > places => self.below("*", old.items, new, depth),
            _ => Ok(()),
        }
    }

    fn objects(&mut self, old: &Node, wanted: &Node, depth: usize) -> Result<(), Narrower> {
        self.bounds(&old.keys, &wanted.keys, "keys")?;
        if let Some(key) = wanted.required.iter().find(|key| !old.required.contains(key)) {
            return self.narrower(format!("the key {:?} is required now", short(key)));
        }
        if wanted.names.is_some() && !self.same_parts(old.names, wanted.names, depth) {
            return self.narrower("it wants other keys");
        }
        if !(old.by_pattern.is_empty() && wanted.by_pattern.is_empty()) {
            return self.by_pattern(old, wanted, depth);
        }
        let is_closed = old.additional.is_some_and(|additional| self.old[additional].never);
        for (key, new) in &wanted.properties {
            let named = old.properties.get(key).copied();
            // Nobody sends a key that the earlier schema does not name, unless it says something of all keys.
            let Some(earlier) = named.or(old.additional.filter(|_| !is_closed)) else { continue };
            self.below(&escaped(key), Some(earlier), *new, depth)?;
        }
        if let Some(new) = wanted.additional {
            for (key, earlier) in &old.properties {
                if !wanted.properties.contains_key(key) {
                    self.below(&escaped(key), Some(*earlier), new, depth)?;
                }
            }
            if !is_closed {
                self.below("*", old.additional, new, depth)?;
            }
        }
        Ok(())
    }

    /// Keys by a pattern must stay as they are, and so must the others beside them.
    fn by_pattern(&mut self, old: &Node, wanted: &Node, depth: usize) -> Result<(), Narrower> {
        let texts =
            |node: &Node| node.by_pattern.iter().map(|(pattern, _)| pattern.text.clone()).collect::<Vec<_>>();
        let parts = |node: &Node| node.by_pattern.iter().map(|(_, part)| *part).collect::<Vec<_>>();
        let as_before = texts(old) == texts(wanted)
            && old.properties.keys().eq(wanted.properties.keys())
            && old
                .properties
                .values()
                .zip(wanted.properties.values())
                .all(|(a, b)| self.same(*a, *b, depth + 1))
            && parts(old).into_iter().zip(parts(wanted)).all(|(a, b)| self.same(a, b, depth + 1))
            && self.same_parts(old.additional, wanted.additional, depth);
        if as_before { Ok(()) } else { self.narrower("what it says of keys by a pattern has changed") }
    }
}

/// The least and the most of the numbers that a node takes.
fn limits(node: &Node) -> (f64, f64) {
    let numbers = &node.numbers;
    let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
    if let Some(Format::Whole { least: a, most: b, .. }) = node.format {
        (least, most) = (a as f64, b as f64);
    }
    for limit in [numbers.minimum, numbers.above].into_iter().flatten() {
        least = least.max(limit);
    }
    for limit in [numbers.maximum, numbers.below].into_iter().flatten() {
        most = most.min(limit);
    }
    (least, most)
}

fn is_within(one: Type, other: Type) -> bool {
    one == other || one == Type::Integer && other == Type::Number
}

fn is_of(value: &Value, only: Type) -> bool {
    match value {
        Value::Null => only == Type::Null,
        Value::Bool(_) => only == Type::Boolean,
        Value::Number(_) => matches!(only, Type::Number | Type::Integer),
        Value::String(_) => only == Type::String,
        Value::Array(_) => only == Type::Array,
        Value::Object(_) => only == Type::Object,
    }
}
