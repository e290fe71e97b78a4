//! How it ended: the text for people and the object for programs. Pure.

use std::path::PathBuf;
use std::time::Duration;

use outgrow_shop::shoppers::{Example, Totals};
use serde_json::{Value, json};

use super::account::{Account, Chapter, Counts};
use super::format;
use super::play::Played;
use super::script::Step;

/// Examples of what went wrong that are shown.
const MOST_EXAMPLES: usize = 10;

/// Everything there is to say at the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) instances: u16,
    pub(super) shoppers: usize,
    pub(super) totals: Totals,
    pub(super) counts: Counts,
    pub(super) account: Account,
    /// It was ended before its time.
    pub(super) interrupted: bool,
    /// What went wrong besides requests.
    pub(super) problems: Vec<String>,
    /// Where the logs are, if they were kept.
    pub(super) logs: Option<PathBuf>,
}

impl Summary {
    /// All that must not be, one sentence each. Empty: a good end.
    pub(super) fn verdicts(&self) -> Vec<String> {
        let mut verdicts = self.problems.clone();
        let outcomes = self
            .account
            .chapters()
            .iter()
            .filter_map(|one| one.outcome.as_ref());
        verdicts.extend(outcomes.filter_map(|outcome| outcome.as_ref().err().cloned()));
        let counts = &self.counts;
        if counts.failed > 0 {
            verdicts.push(format!("{} requests failed", format::count(counts.failed)));
        }
        if counts.requests == 0 && !self.interrupted {
            verdicts.push("not one request was answered".to_owned());
        }
        if counts.sockets_refused > 0 {
            verdicts.push(format!(
                "{} WebSockets could not be opened",
                counts.sockets_refused
            ));
        }
        let by_kill = self.cost_of(|step| step == Step::Kill);
        let others = counts.truncated.saturating_sub(by_kill.truncated);
        if others > 0 {
            verdicts.push(format!(
                "{others} responses were truncated without a killed instance"
            ));
        }
        if counts.resent > 0 {
            verdicts.push(format!(
                "{} requests had to be sent again by clients, whose connection was closed",
                format::count(counts.resent)
            ));
        }
        let by_kill = by_kill.sockets_broken;
        let others = counts.sockets_broken.saturating_sub(by_kill);
        if others > 0 {
            verdicts.push(format!(
                "{others} WebSockets broke without a killed instance"
            ));
        }
        verdicts
    }

    fn cost_of(&self, of: impl Fn(Step) -> bool) -> Counts {
        self.account.cost_of(&self.counts, of)
    }

    fn broken_by(&self, of: impl Fn(Step) -> bool) -> u64 {
        self.cost_of(of).sockets_broken
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut lines = self.numbers();
        lines.push(String::new());
        for chapter in self.account.chapters() {
            lines.extend(self.chapter(chapter));
        }
        if self.account.chapters().is_empty() {
            lines.push("It was ended before anything was done to it.".to_owned());
        }
        lines.push(String::new());
        lines.extend(self.ending());
        lines.push(String::new());
        lines.join("\n")
    }

    fn numbers(&self) -> Vec<String> {
        let counts = &self.counts;
        let all = self.totals.all();
        let time = |share: f64| format::time(all.latency.quantile(share));
        let sockets = &self.totals.web_sockets;
        let truncated = match counts.truncated {
            0 => "0".to_owned(),
            count => format!(
                "{} (their beginning was with the client already when the instance was killed)",
                format::count(count)
            ),
        };
        vec![
            format!(
                "outgrow demo: {:.1} s, {} instances of a shop, {} shoppers{}",
                self.totals.elapsed.as_secs_f64(),
                self.instances,
                self.shoppers,
                if self.interrupted {
                    " (ended early)"
                } else {
                    ""
                },
            ),
            String::new(),
            format!(
                "requests    {} ({} a second), each answer compared byte by byte",
                format::count(counts.requests),
                format::count(self.totals.rate().round() as u64),
            ),
            format!("failed      {}", format::count(counts.failed)),
            format!("truncated   {truncated}"),
            format!(
                "retried     {} at another instance",
                format::count(counts.retried)
            ),
            format!(
                "latency     p50 {}   p90 {}   p99 {}   slowest {}",
                time(0.5),
                time(0.9),
                time(0.99),
                format::time(all.latency.max()),
            ),
            format!(
                "WebSockets  {} opened, {} messages; broken: {} by killed instances, {} by reload, \
                 {} by upgrade",
                sockets.opened,
                format::count(sockets.echoes),
                self.broken_by(|step| step == Step::Kill),
                self.broken_by(|step| matches!(step, Step::Reload { .. })),
                self.broken_by(|step| step == Step::Upgrade),
            ),
        ]
    }

    fn chapter(&self, chapter: &Chapter) -> [String; 2] {
        let at = format!("{:>6.1} s  ", chapter.at.as_secs_f64());
        let what = match &chapter.outcome {
            None => "cut short".to_owned(),
            Some(Ok(played)) => format!("{}: {}", played.what, played.result),
            Some(Err(problem)) => format!("FAILED: {problem}"),
        };
        let cost = chapter.cost(&self.counts);
        let cost = format!(
            "          cost: failed {}, truncated {}, retried {}, WebSockets broken {}",
            cost.failed, cost.truncated, cost.retried, cost.sockets_broken
        );
        [format!("{at}{what}"), cost]
    }

    fn ending(&self) -> Vec<String> {
        let verdicts = self.verdicts();
        if verdicts.is_empty() {
            return vec!["No request failed.".to_owned()];
        }
        let mut lines: Vec<String> = verdicts
            .iter()
            .map(|verdict| format!("FAILED: {verdict}."))
            .collect();
        for (reason, count) in &self.totals.reasons {
            lines.push(format!("  {count} x {reason}"));
        }
        // What a killed instance breaks is no failure, so it is shown last.
        let expected =
            |example: &&Example| example.kind == "web socket" || example.what == "truncated";
        let examples = &self.totals.examples;
        let (last, first): (Vec<_>, Vec<_>) = examples.iter().partition(expected);
        lines.extend(
            first
                .into_iter()
                .chain(last)
                .take(MOST_EXAMPLES)
                .map(|example| format!("  at {example}")),
        );
        if let Some(logs) = &self.logs {
            lines.push(format!(
                "The log (outgrow.log), the access record (access.log) and the configuration are in \
                 {}",
                logs.display()
            ));
        }
        lines
    }

    /// For programs: one line.
    pub(super) fn json(&self) -> String {
        let counts = &self.counts;
        let all = self.totals.all();
        let millis = |share: f64| format::millis(all.latency.quantile(share));
        let steps: Vec<Value> = self
            .account
            .chapters()
            .iter()
            .map(|chapter| self.step(chapter))
            .collect();
        let recoveries: Vec<f64> = self
            .account
            .chapters()
            .iter()
            .filter(|chapter| chapter.cue.step == Step::Kill)
            .filter_map(|chapter| chapter.outcome.as_ref()?.as_ref().ok())
            .map(|played| format::millis(played.took))
            .collect();
        json!({
            "requests": counts.requests,
            "failed": counts.failed,
            "truncated": counts.truncated,
            "retried": counts.retried,
            "resent_by_client": counts.resent,
            "p50_ms": millis(0.5),
            "p90_ms": millis(0.9),
            "p99_ms": millis(0.99),
            "max_ms": format::millis(all.latency.max()),
            "seconds": format::millis(self.totals.elapsed) / 1e3,
            "requests_per_second": self.totals.rate().round(),
            "web_sockets": {
                "opened": self.totals.web_sockets.opened,
                "refused": counts.sockets_refused,
                "broken": counts.sockets_broken,
                "broken_by_kill": self.broken_by(|step| step == Step::Kill),
                "broken_by_reload": self.broken_by(|step| matches!(step, Step::Reload { .. })),
                "broken_by_upgrade": self.broken_by(|step| step == Step::Upgrade),
            },
            "recovery_ms": recoveries,
            "steps": steps,
            "interrupted": self.interrupted,
            "problems": self.verdicts(),
            "logs": self.logs.as_ref().map(|path| path.display().to_string()),
        })
        .to_string()
    }

    fn step(&self, chapter: &Chapter) -> Value {
        let cost = chapter.cost(&self.counts);
        let played: Option<&Played> = chapter.outcome.as_ref().and_then(|one| one.as_ref().ok());
        let at: Duration = chapter.at;
        json!({
            "step": match chapter.cue.step {
                Step::Kill => "kill",
                Step::Reload { .. } => "reload",
                Step::Upgrade => "upgrade",
            },
            "at_ms": format::millis(at),
            "done": played.is_some(),
            "took_ms": played.map(|played| format::millis(played.took)),
            "failed": cost.failed,
            "truncated": cost.truncated,
            "retried": cost.retried,
            "web_sockets_broken": cost.sockets_broken,
        })
    }
}

#[cfg(test)]
mod tests;
