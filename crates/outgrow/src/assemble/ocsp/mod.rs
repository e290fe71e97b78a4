//! OCSP stapling: responders are asked what they say of the certificates that listeners serve, and the
//! keeper holds what they said for the next data process.
//!
//! A task on the control runtime asks ([`ask`]); workers take what it has put beside the certificates
//! (`outgrow-tls`). Nothing waits for it: neither a start, nor a reload, nor a handshake. A process that
//! drains asks no more.

mod ask;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::{Clock, Random, WallTime, base64};
use outgrow_discover::Surroundings;
use outgrow_fleet::client::Sender;
use outgrow_fleet::protocol::{DataMessage, Hello};
use outgrow_net::ticker::Ticker;
use outgrow_tls::{OcspResponse, OcspStatus, Schedule, Staple, Staples, TlsWarning};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};

use super::{discover, log};

/// Under which name the keeper holds the responses.
const KEY: &str = "ocsp";
/// Most bytes of responses that it is given; those beyond are asked for again.
const KEPT_LIMIT: usize = 96 * 1024;
/// How often is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);
/// Most questions at a time.
const AT_ONCE: usize = 4;

/// A response as the keeper holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// In DER, as Base64.
    response: String,
    /// Seconds since 1970.
    until: u64,
}

/// The staples of this process, with what the one before had.
pub(super) fn recall(hello: &Hello) -> Arc<Staples> {
    let kept = hello.kept.get(KEY).cloned();
    let kept = kept.and_then(|value| serde_json::from_value(value).ok());
    let kept: BTreeMap<String, Kept> = kept.unwrap_or_default();
    let read = |(id, kept): (String, Kept)| {
        let until = WallTime(kept.until.saturating_mul(1_000_000_000));
        Some((id, (base64::decode(&kept.response)?, until)))
    };
    Staples::recall(kept.into_iter().filter_map(read).collect())
}

/// The task. It ends with this.
#[derive(Debug)]
pub(super) struct Ocsp {
    staples: Arc<Staples>,
    task: JoinHandle<()>,
}

impl Ocsp {
    /// Starts it.
    pub(super) fn start(staples: &Arc<Staples>, sender: &Sender, clock: Clock) -> Self {
        let driver = Driver {
            staples: Arc::clone(staples),
            sender: sender.clone(),
            surroundings: discover::surroundings(clock),
            random: Random::from_system(),
            entries: BTreeMap::new(),
            under_way: JoinSet::new(),
        };
        Self {
            staples: Arc::clone(staples),
            task: tokio::spawn(driver.run()),
        }
    }

    /// The staples that it looks after.
    pub(super) fn staples(&self) -> &Arc<Staples> {
        &self.staples
    }

    /// Asks no more: another process does.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Ocsp {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is known of the questions about one certificate.
#[derive(Debug, Default)]
struct Entry {
    schedule: Schedule,
    is_under_way: bool,
    /// What was told last, so that it is told once.
    told: Option<String>,
}

/// What a question came to.
type Done = (Arc<Staple>, Result<Vec<u8>, String>);

struct Driver {
    staples: Arc<Staples>,
    sender: Sender,
    surroundings: Surroundings,
    random: Random,
    /// By the id of the staple.
    entries: BTreeMap<String, Entry>,
    under_way: JoinSet<Done>,
}

impl Driver {
    async fn run(mut self) {
        let mut looks = Ticker::new(LOOK);
        self.look();
        loop {
            tokio::select! {
                () = looks.tick() => self.look(),
                Some(done) = self.under_way.join_next() => if let Ok((staple, answer)) = done {
                    self.take(&staple, answer).await;
                },
            }
        }
    }

    /// Asks where it is due.
    fn look(&mut self) {
        let now = WallTime::now();
        if self.under_way.is_empty() {
            // One may have ended without a word.
            let entries = self.entries.values_mut();
            entries.for_each(|entry| entry.is_under_way = false);
        }
        let live = self.staples.live();
        self.entries
            .retain(|id, _| live.iter().any(|staple| staple.id() == id));
        for staple in live {
            if staple.responders().is_empty() {
                continue;
            }
            let is_new = !self.entries.contains_key(staple.id());
            let entry = self.entries.entry(staple.id().to_owned()).or_default();
            if let Some(response) = staple.response(now).filter(|_| is_new) {
                // Of the process before.
                entry.schedule.succeeded(&response, now, &mut self.random);
                tell(&staple, entry, &Ok(response));
            }
            let is_due = entry.schedule.is_due(now) && !entry.is_under_way;
            if is_due && self.under_way.len() < AT_ONCE {
                entry.is_under_way = true;
                // Where one has failed it is the next one's turn.
                let urls = staple.responders();
                let url = urls[entry.schedule.failures() as usize % urls.len()].clone();
                let surroundings = self.surroundings;
                self.under_way.spawn(async move {
                    let answer = ask::ask(&url, &staple.request(), surroundings).await;
                    let answer = answer.map_err(|problem| format!("{url}: {problem}"));
                    (staple, answer)
                });
            }
        }
    }

    async fn take(&mut self, staple: &Arc<Staple>, answer: Result<Vec<u8>, String>) {
        let now = WallTime::now();
        let Some(entry) = self.entries.get_mut(staple.id()) else {
            return;
        };
        entry.is_under_way = false;
        let taken = match answer {
            Ok(response) => staple.take(&response, now).map_err(|one| one.to_string()),
            Err(problem) => {
                staple.fail(problem.clone());
                Err(problem)
            }
        };
        match &taken {
            Ok(response) => entry.schedule.succeeded(response, now, &mut self.random),
            Err(_) => entry.schedule.failed(now, &mut self.random),
        }
        tell(staple, entry, &taken);
        if taken.is_ok() {
            self.keep(now).await;
        }
    }

    /// Lets the keeper hold what there is.
    async fn keep(&self, now: WallTime) {
        let mut left = KEPT_LIMIT;
        let mut kept = BTreeMap::new();
        for (id, (response, until)) in self.staples.kept(now) {
            let response = base64::encode(&response);
            let Some(less) = left.checked_sub(response.len() + id.len()) else {
                continue;
            };
            left = less;
            let until = until.seconds();
            kept.insert(id, Kept { response, until });
        }
        let message = DataMessage::Keep {
            key: KEY.to_owned(),
            value: serde_json::to_value(kept).unwrap_or_default(),
        };
        if let Err(error) = self.sender.send(&message).await {
            log::warn(&format!("the keeper cannot be told: {error}"));
        }
    }
}

/// Says what has changed: the first response, a failure and its end, and each time that a certificate
/// is revoked.
fn tell(staple: &Staple, entry: &mut Entry, taken: &Result<OcspResponse, String>) {
    let name = staple.source_name();
    match taken {
        Ok(response) => {
            if let Some(warning) = TlsWarning::revoked(name, response) {
                log::warn(&format!("ocsp: {warning}"));
            } else if entry.told.as_deref() != Some("") {
                log::info(&format!("ocsp: {name}: good, says its issuer; stapled"));
            }
            let is_good = response.status == OcspStatus::Good;
            entry.told = is_good.then(String::new);
        }
        Err(problem) => {
            if entry.told.as_deref() == Some(problem) {
                return;
            }
            let now = WallTime::now();
            let what = match (staple.response(now), staple.must_staple()) {
                (Some(_), _) => "the response that is there is stapled until its end",
                (None, false) => "nothing is stapled",
                (None, true) => "nothing is stapled, and clients refuse it so (must-staple)",
            };
            log::warn(&format!("ocsp: {name}: {problem}; {what}"));
            entry.told = Some(problem.clone());
        }
    }
}
