//! What comments say about where a statement is to go.
//!
//! - `/*outgrow: primary*/`: to the primary, whatever can be proven. So does pgpool's
//!   `/*NO LOAD BALANCE*/`.
//! - `/*outgrow: replica*/`: to a replica, though it cannot be proven that it only reads; who writes it
//!   answers for it. A statement whose keywords say that it writes goes to the primary all the same.
//!
//! A hint is a whole comment, anywhere in the text: ORMs put comments at the end. Both at once mean
//! the primary.

/// The hints of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// Somebody wants it executed by the primary.
    pub primary: bool,
    /// Somebody wants it executed by a replica.
    pub replica: bool,
}

/// What our own hints begin with.
const OURS: &[u8] = b"outgrow:";
const PGPOOL: &[u8] = b"no load balance";

impl Hints {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Takes the hint that a comment is, if it is one.
    pub(crate) fn read(&mut self, comment: &[u8]) {
        let comment = comment.trim_ascii();
        if comment.len() > 32 {
            return;
        }
        if comment.eq_ignore_ascii_case(PGPOOL) {
            self.primary = true;
        }
        let Some((start, rest)) = comment.split_at_checked(OURS.len()) else {
            return;
        };
        if start.eq_ignore_ascii_case(OURS) {
            let target = rest.trim_ascii();
            self.primary |= target.eq_ignore_ascii_case(b"primary");
            self.replica |= target.eq_ignore_ascii_case(b"replica");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_comments_are_hints() {
        let check = |comment: &str, primary: bool, replica: bool| {
            let mut hints = Hints::default();
            hints.read(comment.as_bytes());
            assert_eq!(hints, Hints { primary, replica }, "{comment}");
        };
        check("outgrow: primary", true, false);
        check(" Outgrow:Replica ", false, true);
        check("NO LOAD BALANCE", true, false);
        check("outgrow: replica, please", false, false);
        check("outgrow:", false, false);
        check("outgrow", false, false);
        check("not outgrow: replica", false, false);
        check("", false, false);
    }
}
