//! The lease in Kubernetes: a Lease (`coordination.k8s.io/v1`), used as the leader election of its
//! own components does, so that it can be among outgrows and others.
//!
//! - [`record`] reads and writes the object, [`sight`] says when another one's is over: both pure.
//! - [`Lock`] looks, and writes what it saw with what is to be changed. The API takes that only when
//!   nobody has written it since (`resourceVersion`); otherwise (409) it is looked at again.
//!
//! Not here: a watch. It would need two verbs more, and tells those who wait only what a look every
//! second or two does.

#[cfg(test)]
mod live;
mod record;
pub(super) mod sight;
#[cfg(test)]
mod tests;

use std::time::Duration;

use outgrow_core::WallTime;

use self::record::Lease;
use self::sight::{Record, Sight};
use super::driver::Answer;
use super::settings::LeaderKubernetes;
use super::time::{BootClock, BootTime};
use crate::discovery::Surroundings;
use crate::http::{Problem, Question};
use crate::kubernetes::place::Place;
use crate::kubernetes::refusal::{self, Rights};

/// The longest time from one look to the next of those who wait.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked again in one question because somebody else has written it meanwhile.
const TURNS: usize = 3;
/// Longest answer, in bytes: others may have written much into the object.
const ANSWER: usize = 1 << 20;
/// What we must be allowed.
const RIGHTS: Rights = Rights {
    what: "get, create and update Leases",
    group: "coordination.k8s.io",
    resource: "leases",
    verbs: &["get", "create", "update"],
    since: "1.14",
};

/// The object.
pub(super) struct Lock {
    settings: LeaderKubernetes,
    surroundings: Surroundings,
    place: Option<Place>,
    name: String,
    identity: String,
    ttl: Duration,
    clock: BootClock,
    /// As it is since we wrote it, unless somebody else has: renewed without a look.
    ours: Option<Lease>,
    sight: Sight,
    /// When another one's may be over, by the last answer.
    free_at: Option<BootTime>,
}

impl Lock {
    pub(super) fn new(
        settings: &LeaderKubernetes,
        name: &str,
        identity: &str,
        ttl: Duration,
        clock: BootClock,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            settings: settings.clone(),
            surroundings,
            place: None,
            name: LeaderKubernetes::object(name),
            identity: identity.to_owned(),
            ttl,
            clock,
            ours: None,
            sight: Sight::default(),
            free_at: None,
        }
    }

    pub(super) async fn hold(&mut self, patience: Duration) -> Result<Answer, String> {
        // Whoever has no answer now asks again by the driver's time, not by that of an earlier one.
        self.free_at = None;
        let place = self.place().await?;
        let mut held = Ok(None);
        for _ in 0..TURNS {
            held = self.turn(&place, patience).await;
            if !matches!(held, Ok(None)) {
                break;
            }
        }
        let held = held.map_err(|problem| told(&place, &problem));
        let answer = held.and_then(|held| held.ok_or_else(|| restless(&place)));
        self.place = Some(place);
        answer
    }

    async fn place(&mut self) -> Result<Place, String> {
        if let Some(place) = self.place.take() {
            return Ok(place);
        }
        let found = Place::find(self.settings.written(), self.surroundings).await;
        found.map_err(|problem| format!("kubernetes: {problem}"))
    }

    /// `None` when it was written by somebody else meanwhile.
    async fn turn(&mut self, place: &Place, patience: Duration) -> Result<Option<Answer>, Problem> {
        let lease = match self.ours.take() {
            Some(lease) => Some(lease),
            None => {
                let lease = self.read(place, patience).await?;
                let record = lease.as_ref().map(|lease| Record {
                    version: &lease.version,
                    holder: &lease.holder,
                    renewed: &lease.renewed,
                    lasts: lease.lasts.unwrap_or(self.ttl),
                });
                let now = (self.clock)();
                if let Some((holder, until)) = self.sight.look(record, &self.identity, now) {
                    self.free_at = Some(until);
                    let holder = holder.chars().take(record::HOLDER).collect();
                    return Ok(Some(Answer::Others(holder)));
                }
                lease
            }
        };
        self.write(place, lease, patience).await
    }

    async fn read(&self, place: &Place, patience: Duration) -> Result<Option<Lease>, Problem> {
        let question = Question {
            target: &self.target(place, true),
            ..Question::default()
        };
        match exchange(place, &question, patience).await {
            Ok(lease) => Ok(Some(lease)),
            Err(problem) if refusal::is_missing(&problem) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Takes or renews it, as it was read; makes it when there was none.
    async fn write(
        &mut self,
        place: &Place,
        before: Option<Lease>,
        patience: Duration,
    ) -> Result<Option<Answer>, Problem> {
        let seconds = self.ttl.as_secs_f64().ceil() as u32;
        let now = WallTime::now();
        let body = match &before {
            Some(lease) => lease.held(&self.identity, seconds, now),
            None => record::made(&self.name, &self.identity, seconds, now),
        };
        let question = Question {
            target: &self.target(place, before.is_some()),
            body: Some(&body),
            method: before.is_some().then_some("PUT"),
            ..Question::default()
        };
        match exchange(place, &question, patience).await {
            Ok(lease) => {
                let before = before.map(|before| before.version);
                if lease.holder != self.identity || before.as_ref() == Some(&lease.version) {
                    // Something before what is stored may change what is written, or not write it.
                    let problem = "what it has now is not what was written";
                    return Err(Problem::Content(problem.to_owned()));
                }
                self.ours = Some(lease);
                Ok(Some(Answer::Ours))
            }
            Err(Problem::Status(409, _)) => Ok(None),
            // It was there a moment ago.
            Err(problem) if before.is_some() && refusal::is_missing(&problem) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Ends when another one's is over, unless it was renewed meanwhile.
    pub(super) async fn wait_free(&self) {
        let Some(free_at) = self.free_at else {
            return std::future::pending().await;
        };
        loop {
            let left = free_at.since((self.clock)());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    pub(super) async fn give_back(&mut self, patience: Duration) -> Result<(), String> {
        let place = self.place().await?;
        let mut given = Ok(false);
        for _ in 0..TURNS {
            given = self.clear(&place, patience).await;
            if !matches!(given, Ok(false)) {
                break;
            }
        }
        let given = given.map_err(|problem| told(&place, &problem));
        let given =
            given.and_then(|is_given| is_given.then_some(()).ok_or_else(|| restless(&place)));
        self.place = Some(place);
        given
    }

    /// Whether it is not ours any more; false when it was written by somebody else meanwhile.
    async fn clear(&mut self, place: &Place, patience: Duration) -> Result<bool, Problem> {
        let lease = match self.ours.take() {
            Some(lease) => Some(lease),
            None => self.read(place, patience).await?,
        };
        let Some(lease) = lease.filter(|lease| lease.holder == self.identity) else {
            return Ok(true);
        };
        let question = Question {
            target: &self.target(place, true),
            body: Some(&lease.given_back(WallTime::now())),
            method: Some("PUT"),
            ..Question::default()
        };
        match exchange(place, &question, patience).await {
            Ok(_) => Ok(true),
            Err(Problem::Status(409, _)) => Ok(false),
            Err(problem) if refusal::is_missing(&problem) => Ok(true),
            Err(problem) => Err(problem),
        }
    }

    /// The object's path, or that of all of them.
    fn target(&self, place: &Place, is_one: bool) -> String {
        let namespace = &place.namespace;
        let all = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        match is_one {
            true => format!("{all}/{}", self.name),
            false => all,
        }
    }
}

async fn exchange(
    place: &Place,
    question: &Question<'_>,
    patience: Duration,
) -> Result<Lease, Problem> {
    let mut answer = place.ask(question, patience).await?;
    let body = answer.whole(patience, ANSWER).await?;
    record::read(&body).map_err(Problem::Content)
}

fn told(place: &Place, problem: &Problem) -> String {
    format!(
        "{}: {}",
        place.server,
        refusal::told(place, problem, &RIGHTS)
    )
}

fn restless(place: &Place) -> String {
    format!("{}: the lease changes all the time", place.server)
}
