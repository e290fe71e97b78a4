//! The proof that a text only reads, and that a replica answers as the primary would.
//!
//! By names, not by a tree: every name, operator and keyword is looked at wherever it stands, and everything
//! that could be a write of any kind speaks against it. So it needs no grammar, takes no time but for
//! each token once, and errs on one side: what it calls read only is. What it holds is this:
//!
//! - no keyword that writes or locks stands in it, `FOR SHARE` included
//! - every name before `(` is a keyword of the grammar or a function of which nothing of that name, in any
//!   schema, is suspect; unknown ones count as suspect
//! - no name in it is that of a suspect relation, type or operator, and none behind a dot is that of a function
//!   that `row.name` could call
//! - of settings it asks for none but the session's own
//!
//! What suspect means is written in `catalogue/query.rs`. Functions are believed what they are declared to
//! be, `SECURITY DEFINER` or not. A session with temporary objects is pinned
//! ([`Pin::Temporary`](super::facts::Pin::Temporary)) and so not a matter of this; neither is how current a
//! replica is, nor what the session was set to: a session whose transactions are serializable by default
//! ([`default_transaction_isolation`]) cannot have replicas, and a text that begins a transaction without
//! ending it decides for what follows. Parameters of a type of the database's own whose type the client declares
//! are to be asked about when [`Counts::suspect_types`](super::catalogue::Counts::suspect_types) is not zero.
//!
//! [`default_transaction_isolation`]: https://www.postgresql.org/docs/current/runtime-config-client.html

mod parentheses;
mod prover;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod verdict;

use super::catalogue::Catalogue;
use super::facts::{self, Facts};
use super::hint::Hints;
use super::lexer::Lexing;
use super::walk::{Step, Walk};
use prover::Prover;
pub use verdict::{Cause, Excerpt, Finding, Verdict};

/// Whether a text only reads, its hints not counted (see [`with_hints`]).
pub fn prove(text: &[u8], lexing: Lexing, catalogue: &Catalogue) -> Verdict {
    let mut prover = Prover::new(text, catalogue);
    let mut previous = Step::NONE;
    for step in Walk::new(text, lexing) {
        prover.step(previous, step);
        previous = step;
    }
    prover.finish()
}

/// What a text is and whether it only reads, read once. The hints count.
pub fn examine(text: &[u8], lexing: Lexing, catalogue: &Catalogue) -> (Facts, Verdict) {
    let mut prover = Prover::new(text, catalogue);
    let mut builder = facts::Builder::new(text, lexing);
    let mut facts = Facts::default();
    let mut walk = Walk::new(text, lexing);
    let mut previous = Step::NONE;
    for step in walk.by_ref() {
        prover.step(previous, step);
        if builder.step(previous, step) {
            facts.add(&builder.finish());
        }
        previous = step;
    }
    if builder.is_open() {
        facts.add(&builder.finish());
    }
    facts.hints = walk.hints();
    (facts, with_hints(prover.finish(), facts.hints))
}

/// A verdict with what hints make of it.
pub fn with_hints(verdict: Verdict, hints: Hints) -> Verdict {
    if hints.primary {
        let token = Excerpt::of(b"/*outgrow: primary*/");
        let cause = Cause::Hint;
        return verdict.worse(Verdict::Unproven(Finding { cause, token }));
    }
    match verdict {
        Verdict::Unproven(finding) if hints.replica && may_be_claimed(finding.cause) => {
            Verdict::Claimed
        }
        other => other,
    }
}

/// Whether somebody may say that it only reads all the same: not of what belongs to the session or to a
/// connection, nor of what cannot be on a replica.
fn may_be_claimed(cause: Cause) -> bool {
    !matches!(
        cause,
        Cause::Session | Cause::Cursor | Cause::Transaction | Cause::Hint
    )
}
