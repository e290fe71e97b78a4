//! What would be done if somebody asked, for people: which server is what, and the steps in order.

use outgrow_core::Ticks;

use super::judge::{Moment, judge};
use super::machine::{Machine, Wish};
use super::{Fencing, Sight, Terms};

impl Machine {
    /// The servers with what is known of them, then the steps.
    pub fn preview(&self, now: Ticks, terms: &Terms, sight: &Sight, wish: &Wish) -> Vec<String> {
        let mut lines = Vec::new();
        let alive = Self::alive(now, sight);
        let moment = Moment {
            now,
            since: Ticks::ZERO,
            is_planned: alive.is_some(),
        };
        let verdict = judge(terms, sight, self.known.as_ref(), moment, Some(wish));
        match (&alive, &self.known) {
            (Some(server), Some(known)) => lines.push(format!(
                "{server} is the primary (timeline {}, {}) and answers: nothing is lost",
                known.timeline, known.lsn
            )),
            (_, Some(known)) => lines.push(format!(
                "{} was the primary (timeline {}, {}), heard last {} s ago: what it had \
                 acknowledged since, and no replica has, is lost",
                known.address,
                known.timeline,
                known.lsn,
                self.silent(now).as_secs()
            )),
            (_, None) => lines.push("no primary is known: it has not answered yet".to_owned()),
        }
        for address in &verdict.candidates {
            let Some(seen) = sight.at(address) else {
                continue;
            };
            let (received, replayed) = (seen.received, seen.replayed);
            lines.push(format!(
                "{address} can be promoted: it has received up to {received}, replayed up to {replayed}"
            ));
        }
        for (address, why) in &verdict.excluded {
            lines.push(format!("{address} {why}"));
        }
        for problem in &verdict.problems {
            lines.push(problem.why.clone());
        }
        lines.extend(steps(terms, wish, alive.is_some()));
        lines
    }
}

fn steps(terms: &Terms, wish: &Wish, is_planned: bool) -> Vec<String> {
    let mut steps = Vec::new();
    if is_planned {
        steps.push("a checkpoint on the primary, so that it stops fast".to_owned());
        steps.push(format!(
            "queries are held, at most {} s, until no transaction is open and the replica has everything",
            terms.hold.as_secs()
        ));
    }
    steps.push(match (terms.fencing, wish.without_fence) {
        (Fencing::Command, false) => "the fence command runs, and must end with 0".to_owned(),
        _ => "the old primary is not fenced: what it still takes is lost".to_owned(),
    });
    steps.push(
        "the replica is promoted, unless somebody has heard the old primary since".to_owned(),
    );
    steps.push("queries go to the new primary once it says that it is".to_owned());
    let number = |(index, step): (usize, String)| format!("{}. {step}", index + 1);
    steps.into_iter().enumerate().map(number).collect()
}
