//! Which replica may be promoted, and what stands against promoting any: pure.

use std::time::Duration;

use outgrow_core::Ticks;

use super::told::Problem;
use super::{Known, Seen, Sight, Terms, Wish};
use crate::standing::Role;

/// How old the word of a server may be that counts as one that answers.
pub(super) const FRESH: Duration = Duration::from_secs(3);

/// What follows from what is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The replicas that may be promoted, the best first.
    pub candidates: Vec<String>,
    /// The others, with why not.
    pub excluded: Vec<(String, String)>,
    /// What stands against all of them.
    pub problems: Vec<Problem>,
}

impl Verdict {
    /// The replica to promote.
    ///
    /// # Errors
    /// Why there is none.
    pub fn chosen(&self) -> Result<&str, Problem> {
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        let first = self.candidates.first().map(String::as_str);
        first.ok_or_else(|| {
            let whys: Vec<String> = (self.excluded.iter())
                .map(|(address, why)| format!("{address} {why}"))
                .collect();
            Problem::new(
                format!("no replica can be promoted: {}", whys.join("; ")),
                "bring one of them back, or accept what is lost: outgrow postgres promote SERVICE \
                 --accept-loss",
            )
        })
    }
}

/// When is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Ticks,
    /// Only what servers said since then counts, and that of the last moments.
    pub since: Ticks,
    /// Whether the primary answers: then a replica has still the time to receive what others have.
    pub is_planned: bool,
}

/// Judges.
pub fn judge(
    terms: &Terms,
    sight: &Sight,
    known: Option<&Known>,
    moment: Moment,
    wish: Option<&Wish>,
) -> Verdict {
    let Moment { now, since, .. } = moment;
    let mut verdict = Verdict::default();
    let accepts_loss = wish.is_some_and(|wish| wish.accepts_loss);
    let old = known.map(|known| known.address.as_str());
    let answers = |seen: &&Seen| {
        let is_fresh = |at: Ticks| at >= since && now.since(at) < FRESH;
        seen.role == Some(Role::Replica) && seen.heard.is_some_and(is_fresh)
    };
    let replicas = || sight.others(old);
    let answering: Vec<&Seen> = replicas().filter(answers).collect();
    // A primary of whom nothing is known wrote the newest timeline that anybody follows.
    let newest = answering.iter().map(|seen| seen.timeline).max();
    let timeline = known.map_or(newest.unwrap_or_default(), |known| known.timeline);
    let of_it = (answering.iter()).filter(|seen| seen.timeline == timeline);
    let most = of_it.map(|seen| seen.received).max().unwrap_or_default();
    let furthest = known.map_or(most, |known| known.lsn);
    let mut candidates = Vec::new();
    for seen in replicas() {
        let lag = furthest.since(seen.received);
        let lacks = most.since(seen.received);
        let asked_for = wish.and_then(|wish| wish.to.as_ref());
        if asked_for.is_some_and(|to| *to != seen.address) {
            continue;
        }
        let why = if !answers(&seen) {
            match (&seen.refuses, seen.role) {
                (Some(text), _) => format!("does not let us in: {text}"),
                (None, Some(Role::Fenced)) => "is a primary that was replaced".to_owned(),
                _ => "does not answer".to_owned(),
            }
        } else if seen.timeline != timeline {
            format!("is on timeline {}, not {timeline}", seen.timeline)
        } else if lag > terms.max_lag && !accepts_loss {
            format!(
                "lacks {lag} bytes of what the primary was known to have, and may lack {} (max_lag)",
                terms.max_lag
            )
        } else if asked_for.is_some() && lacks > 0 && !moment.is_planned && !accepts_loss {
            format!("lacks {lacks} bytes that another replica has")
        } else {
            candidates.push(seen);
            continue;
        };
        verdict.excluded.push((seen.address.clone(), why));
    }
    // The furthest; of equals the first in the order of the service, for every box alike.
    candidates.sort_by_key(|seen| std::cmp::Reverse(seen.received));
    verdict.candidates = candidates.iter().map(|seen| seen.address.clone()).collect();
    let (total, there) = (replicas().count(), answering.len());
    verdict.problems = against(terms, known, (total, there), wish);
    let is_second = |seen: &&Seen| seen.role == Some(Role::Primary) && seen.failing.is_none();
    if let Some(second) = replicas().find(is_second).filter(|_| old.is_some()) {
        let why = format!("{} takes writes as well", second.address);
        let remedy = "find out which of the two is the primary, and stop the other one";
        verdict.problems.push(Problem::new(why, remedy));
    }
    verdict
}

/// What stands against promoting any of `total` replicas, of which so many are `there`.
fn against(
    terms: &Terms,
    known: Option<&Known>,
    (total, there): (usize, usize),
    wish: Option<&Wish>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if wish.is_some_and(|wish| wish.accepts_loss) {
        return problems;
    }
    let least = match terms.min_replicas {
        Some(least) => least as usize,
        None => total / 2 + 1,
    };
    // Who asks has looked.
    if wish.is_none() && there < least {
        problems.push(Problem::new(
            format!("only {there} of {total} replicas answer, and {least} must (min_replicas)"),
            "bring them back, or ask for it: outgrow postgres promote SERVICE",
        ));
    }
    let waited = known.map_or(0, |known| known.synchronous) as usize;
    let away = total - there;
    if waited > 0 && away >= waited {
        problems.push(Problem::new(
            format!(
                "commits waited for {waited} standbys, and {away} replicas do not answer: what was \
                 acknowledged may be on these alone"
            ),
            "bring them back, or accept what is lost: outgrow postgres promote SERVICE --accept-loss",
        ));
    }
    problems
}
