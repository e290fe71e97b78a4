//! What a path had where its pattern has parameters, as places in the path.

use crate::settings::PARAMETER_LIMIT;

/// The captured segments of a path, and where the rest behind a prefix begins. The names are the
/// route's to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    spans: [(u32, u32); PARAMETER_LIMIT],
    count: usize,
    rest: u32,
}

impl Captures {
    /// Nothing captured; the whole path is the rest.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.rest = 0;
    }

    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        // A pattern with more is refused when it is read.
        if let Some(span) = self.spans.get_mut(self.count) {
            *span = (start as u32, end as u32);
            self.count += 1;
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    #[inline]
    pub(super) fn end(&mut self, at: usize) {
        self.rest = at as u32;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The segment of a parameter, by its place in the pattern; empty when there is none.
    pub fn segment<'p>(&self, index: usize, path: &'p [u8]) -> &'p [u8] {
        match self.spans[..self.count].get(index) {
            Some((start, end)) => path.get(*start as usize..*end as usize).unwrap_or_default(),
            None => &[],
        }
    }

    /// What follows the prefix, with its first slash: empty, or it begins with one. Of what is not
    /// a path (`*`) nothing.
    pub fn rest<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let rest = path.get(self.rest as usize..).unwrap_or_default();
        if rest.first() == Some(&b'/') {
            rest
        } else {
            &[]
        }
    }
}
