//! The paths of one host as a tree by segments.
//!
//! A lookup goes from the most specific path to the least: a literal segment before a parameter,
//! both before the end of a prefix, the end of an exact path before that of a prefix. What it goes
//! back for is bounded: it enters each node of the tree at most once and is never deeper than
//! [`SEGMENT_LIMIT`](crate::settings::SEGMENT_LIMIT).

use crate::settings::{PathPattern, Segment};

use super::captures::Captures;
use super::index::{Index, key};

/// Literal children up to this number are tried one after the other; among more, one is looked up.
const FEW: usize = 4;

/// A node: what follows after some segments of a path. `T` is what is found at its ends.
#[derive(Clone, Debug)]
pub(super) struct Node<T> {
    /// The segments from the parent to here, without the first slash. Several where there is no
    /// choice between them; unused at the root and for parameters.
    label: Box<[u8]>,
    /// The literal children by their first segments; only where there are more than [`FEW`].
    index: Index,
    literals: Vec<Self>,
    parameter: Option<Box<Self>>,
    exact: Vec<T>,
    prefix: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            label: Box::default(),
            index: Index::default(),
            literals: Vec::new(),
            parameter: None,
            exact: Vec::new(),
            prefix: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    /// What is found at the end of a pattern, to be added to. Before [`Node::finish`].
    pub(super) fn at(&mut self, path: &PathPattern) -> &mut Vec<T> {
        let mut node = self;
        for segment in path.segments() {
            node = match segment {
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Literal(text) => node.literal(text.as_bytes()),
            };
        }
        if path.is_exact() {
            &mut node.exact
        } else {
            &mut node.prefix
        }
    }

    fn literal(&mut self, label: &[u8]) -> &mut Self {
        let known = self.literals.iter().position(|node| *node.label == *label);
        let at = known.unwrap_or_else(|| {
            self.literals.push(Self {
                label: label.into(),
                ..Self::default()
            });
            self.literals.len() - 1
        });
        &mut self.literals[at]
    }

    /// Makes the tree ready for lookups; `sort` puts what is found at one end in its order.
    pub(super) fn finish(&mut self, sort: &impl Fn(&mut Vec<T>)) {
        sort(&mut self.exact);
        sort(&mut self.prefix);
        for node in &mut self.literals {
            node.finish(sort);
            node.join_only_child();
        }
        if let Some(node) = &mut self.parameter {
            node.finish(sort);
        }
        if self.literals.len() > FEW {
            for node in &self.literals {
                self.index.push(key(first_segment(&node.label)));
            }
        }
    }

    /// Becomes its only child when nothing ends here: one comparison less on the way.
    fn join_only_child(&mut self) {
        let is_passage =
            self.exact.is_empty() && self.prefix.is_empty() && self.parameter.is_none();
        // An empty label is the slash at the end of an exact path; it stays a segment of its own.
        if !is_passage || self.literals.len() != 1 || self.literals[0].label.is_empty() {
            return;
        }
        if let Some(child) = self.literals.pop() {
            let label = [&*self.label, b"/", &*child.label].concat();
            *self = Self {
                label: label.into(),
                ..child
            };
        }
    }

    /// Goes through what matches `path`, from byte `at` on, the most specific first, until `visit`
    /// gives something. `at` is 0, or where a slash or the end of the path is.
    pub(super) fn walk<'n, R>(
        &'n self,
        path: &[u8],
        at: usize,
        captures: &mut Captures,
        visit: &mut impl FnMut(&'n T, &mut Captures) -> Option<R>,
    ) -> Option<R> {
        let rest = &path[at..];
        if let [b'/', rest @ ..] = rest
            && !(self.literals.is_empty() && self.parameter.is_none())
            && let Some(found) = self.walk_children(path, rest, at + 1, captures, visit)
        {
            return Some(found);
        }
        if !self.exact.is_empty() && rest.is_empty() {
            captures.end(at);
            for found in &self.exact {
                if let Some(found) = visit(found, captures) {
                    return Some(found);
                }
            }
        }
        captures.end(at);
        self.prefix.iter().find_map(|found| visit(found, captures))
    }

    #[inline]
    fn walk_children<'n, R>(
        &'n self,
        path: &[u8],
        rest: &[u8],
        start: usize,
        captures: &mut Captures,
        visit: &mut impl FnMut(&'n T, &mut Captures) -> Option<R>,
    ) -> Option<R> {
        if let Some(node) = self.literal_for(rest)
            && let Some(found) = node.walk(path, start + node.label.len(), captures, visit)
        {
            return Some(found);
        }
        let node = self.parameter.as_ref()?;
        let length = first_segment(rest).len();
        if length == 0 {
            return None;
        }
        captures.push(start, start + length);
        let found = node.walk(path, start + length, captures, visit);
        if found.is_none() {
            captures.pop();
        }
        found
    }

    /// The literal child whose segments `rest` begins with. There is at most one: the first
    /// segments of children differ.
    #[inline]
    fn literal_for(&self, rest: &[u8]) -> Option<&Self> {
        if self.literals.len() <= FEW {
            return self.literals.iter().find(|node| node.begins(rest));
        }
        let key = key(first_segment(rest));
        let found = self.index.find(key, |at| self.literals[at].begins(rest));
        found.map(|at| &self.literals[at])
    }

    #[inline]
    fn begins(&self, rest: &[u8]) -> bool {
        let length = self.label.len();
        match rest.get(length) {
            None if rest.len() != length => return false,
            Some(next) if *next != b'/' => return false,
            _ => {}
        }
        rest[..length] == *self.label
    }
}

#[inline]
fn first_segment(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| *byte == b'/');
    &path[..end.unwrap_or(path.len())]
}
