//! Whether parts of schemas say the same, or exclude each other.

use serde_json::Value;

use crate::compare::{Compare, DEPTH_MAX, is_within};
use crate::compile::{Bounds, Node, Numbers, Type};
use crate::format::Format;

impl<'s> Compare<'s> {
    /// Whether two parts say the same in the same way.
    pub(super) fn same(&mut self, one: usize, other: usize, depth: usize) -> bool {
        self.steps = self.steps.saturating_sub(1);
        if depth > DEPTH_MAX || self.steps == 0 {
            return false;
        }
        if !self.same.insert((one, other)) {
            return true;
        }
        let (a, b) = (&self.old[one], &self.new[other]);
        let pattern = |node: &Node| node.pattern.as_ref().map(|pattern| pattern.text.clone());
        let format = |node: &Node| match node.format {
            Some(Format::Whole { name, .. }) => Some(name),
            Some(Format::Text { words, .. }) => Some(words),
            None => None,
        };
        let numbers = |node: &Node| {
            let Numbers { minimum, maximum, above, below, multiple_of } = node.numbers;
            [minimum, maximum, above, below, multiple_of]
        };
        let bounds =
            |node: &Node| [&node.length, &node.count, &node.keys].map(|bounds| (bounds.least, bounds.most));
        let own = (a.takes_all, a.never, a.unique) == (b.takes_all, b.never, b.unique)
            && a.types == b.types
            && a.one_of_values == b.one_of_values
            && numbers(a) == numbers(b)
            && bounds(a) == bounds(b)
            && pattern(a) == pattern(b)
            && format(a) == format(b)
            && a.required == b.required
            && a.properties.keys().eq(b.properties.keys())
            && a.by_pattern
                .iter()
                .map(|(pattern, _)| &pattern.text)
                .eq(b.by_pattern.iter().map(|(pattern, _)| &pattern.text));
        let lists = |node: &Node| -> Vec<Vec<usize>> {
            let single = |part: Option<usize>| part.into_iter().collect::<Vec<_>>();
            vec![
                node.prefix.clone(),
                node.all_of.clone(),
                node.any_of.clone(),
                node.one_of.clone(),
                node.properties.values().copied().collect(),
                node.by_pattern.iter().map(|(_, part)| *part).collect(),
                single(node.items),
                single(node.additional),
                single(node.names),
                single(node.not),
            ]
        };
        let (left, right) = (lists(a), lists(b));
        let same = own
            && left.iter().map(Vec::len).eq(right.iter().map(Vec::len))
            && left
                .into_iter()
                .flatten()
                .zip(right.into_iter().flatten())
                .all(|(a, b)| self.same(a, b, depth + 1));
        if !same {
            self.same.remove(&(one, other));
        }
        same
    }

    pub(super) fn same_parts(&mut self, old: Option<usize>, new: Option<usize>, depth: usize) -> bool {
        match (old, new) {
            (None, None) => true,
            (Some(old), Some(new)) => self.same(old, new, depth + 1),
            _ => false,
        }
    }

    /// Whether no value fits two of these forms, as far as that can be seen.
    pub(super) fn are_apart(&self, forms: &[usize]) -> bool {
        forms.iter().enumerate().all(|(i, one)| forms[..i].iter().all(|other| self.is_apart(*one, *other)))
    }

    fn is_apart(&self, one: usize, other: usize) -> bool {
        let (a, b) = (self.form(one), self.form(other));
        if let (Some(a), Some(b)) = (&a.types, &b.types)
            && !a.iter().any(|a| b.iter().any(|b| is_within(*a, *b) || is_within(*b, *a)))
        {
            return true;
        }
        if let (Some(a), Some(b)) = (&a.one_of_values, &b.one_of_values) {
            return no_value_in_both(a, b);
        }
        // Objects: a key that says which form it is, or that the other form does not take.
        let tags = |node: &Node| node.types.as_deref() == Some(&[Type::Object]);
        let by_tag = a.required.iter().any(|key| {
            let value = |node: &Node| self.form(*node.properties.get(key)?).one_of_values.as_ref();
            b.required.contains(key) && value(a).zip(value(b)).is_some_and(|(a, b)| no_value_in_both(a, b))
        });
        let closes = |closed: &Node, open: &Node| {
            closed.by_pattern.is_empty()
                && closed.additional.is_some_and(|part| self.new[part].never)
                && open.required.iter().any(|key| !closed.properties.contains_key(key))
        };
        tags(a) && tags(b) && (by_tag || closes(a, b) || closes(b, a))
    }

    /// A form, behind references to it.
    fn form(&self, index: usize) -> &'s Node {
        let mut node = &self.new[index];
        for _ in 0..5 {
            match node.all_of[..] {
                [only] if says_only_parts(node) => node = &self.new[only],
                _ => break,
            }
        }
        node
    }
}

/// Whether a node says nothing but which parts it has.
pub(super) fn says_only_parts(node: &Node) -> bool {
    let Node {
        takes_all: _,
        never,
        types,
        one_of_values,
        numbers: Numbers { minimum, maximum, above, below, multiple_of },
        length,
        pattern,
        format,
        count,
        unique,
        prefix,
        items,
        keys,
        required,
        properties,
        by_pattern,
        additional,
        names,
        all_of: _,
        any_of: _,
        one_of: _,
        not,
    } = node;
    let is_free = |bounds: &Bounds| bounds.least.is_none() && bounds.most.is_none();
    let numbers = [minimum, maximum, above, below, multiple_of];
    !never
        && types.is_none()
        && one_of_values.is_none()
        && numbers.into_iter().all(Option::is_none)
        && [length, count, keys].into_iter().all(is_free)
        && pattern.is_none()
        && format.is_none()
        && !unique
        && prefix.is_empty()
        && [items, additional, names, not].into_iter().all(Option::is_none)
        && required.is_empty()
        && properties.is_empty()
        && by_pattern.is_empty()
}

fn no_value_in_both(one: &[Value], other: &[Value]) -> bool {
    let equal = |a: &Value, b: &Value| a == b || a.as_f64().is_some() && a.as_f64() == b.as_f64();
    !one.iter().any(|a| other.iter().any(|b| equal(a, b)))
}
