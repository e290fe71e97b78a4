//! Kubernetes: the ready endpoints of a service, from its EndpointSlices, listed once and watched.
//!
//! A watch goes on from the version that the last one ended at, so that nothing is read twice. It
//! is short on purpose: a connection that died unnoticed, the old complaint about watches, costs no
//! longer than one. All is listed anew when the server has forgotten our version, when something
//! was left out, and every few minutes in any case, so that whatever was lost (a restored cluster's
//! versions go back) comes right by itself.
//!
//! Where the API server is and who we are to it ([`place`]), and what its refusals mean
//! ([`refusal`]), is the same for the leader lease (`lease/kubernetes`).
//!
//! Not here: Endpoints, the API before slices, and hints of topology; zones are ours to weigh.

mod messages;
pub(crate) mod place;
pub(crate) mod refusal;
mod settings;
mod view;

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;

use std::time::Duration;

use outgrow_core::Random;
use tokio::time::{Instant, timeout_at};

pub use self::settings::{Family, KubernetesSettings, Port};
pub(crate) use self::settings::{check_written, is_subdomain};

use self::messages::Watched;
use self::place::Place;
use self::refusal::Rights;
use self::view::View;
use crate::backoff::Backoff;
use crate::discovery::{Reporter, Surroundings};
use crate::http::{Answer, Lines, Problem, Question, encoded};

/// Longest page of a list and longest line of a watch, in bytes.
const ANSWER: usize = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long a watch is left open, up to half as long again. Tests cannot wait so long.
const WATCH: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
/// A watch that the server has not ended so long after its time is dead.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// After so long all is listed anew.
const RELIST: Duration = Duration::from_secs(600);
/// A round that takes less than this costs a pause.
const SOON: Duration = Duration::from_secs(1);
/// Changes that come within this time are told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Slices of a page: with 1000 endpoints each, which the API allows, they are within the limit.
const PAGE: usize = 20;
/// Most pages that are read.
const PAGES: usize = 64;
/// What we must be allowed.
const RIGHTS: Rights = Rights {
    what: "list and watch EndpointSlices",
    group: "discovery.k8s.io",
    resource: "endpointslices",
    verbs: &["get", "list", "watch"],
    since: "1.21",
};

/// Lists and watches until it is dropped.
pub(crate) async fn run(
    settings: KubernetesSettings,
    surroundings: Surroundings,
    reporter: Reporter,
) {
    let mut random = Random::from_system();
    let mut backoff = Backoff::default();
    let mut driver = Driver {
        settings,
        surroundings,
        reporter,
        place: None,
        known: None,
        is_told: false,
    };
    loop {
        let began = Instant::now();
        let length = WATCH.mul_f64(1.0 + random.unit() / 2.0);
        let result = driver.round(length).await;
        if let Err(problem) = &result {
            driver.failed(problem);
        }
        // One that ends soon after it began, again and again, is as good as a failure.
        if result.is_err() || began.elapsed() < SOON {
            tokio::time::sleep(backoff.failed(&mut random)).await;
        } else {
            backoff.succeeded();
        }
    }
}

struct Driver {
    settings: KubernetesSettings,
    surroundings: Surroundings,
    reporter: Reporter,
    place: Option<Place>,
    known: Option<Known>,
    /// Whether what is known could be told, which is then confirmed by every word of the server.
    is_told: bool,
}

/// What is known, and as of when.
struct Known {
    view: View,
    version: String,
    listed: Instant,
}

impl Driver {
    /// One watch, after a list where one is needed.
    async fn round(&mut self, length: Duration) -> Result<(), Problem> {
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::find(self.settings.written(), self.surroundings).await?,
        };
        let result = self.follow(&place, length).await;
        self.place = Some(place);
        result
    }

    async fn follow(&mut self, place: &Place, length: Duration) -> Result<(), Problem> {
        let is_good = |known: &Known| known.view.is_whole() && known.listed.elapsed() < RELIST;
        if !self.known.as_ref().is_some_and(is_good) {
            self.known = Some(self.list(place).await?);
            self.tell();
        }
        let Some(known) = &self.known else {
            return Ok(());
        };
        let target = format!(
            "{}&watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.target(place),
            encoded(&known.version),
            length.as_secs()
        );
        let until = Instant::now() + length + GRACE;
        let watched = match ask(place, &target).await {
            Ok(answer) => self.watch(answer, until).await,
            Err(problem) => Err(problem),
        };
        match watched {
            // Not a failure: the next list has it all.
            Err(Problem::Status(410, _)) | Ok(Ended::Lost) => {
                self.known = None;
                Ok(())
            }
            Err(problem @ Problem::Content(_)) => {
                self.known = None;
                Err(problem)
            }
            Err(problem) => Err(problem),
            Ok(Ended::InTime) => Ok(()),
        }
    }

    /// Everything as it is now, page by page.
    async fn list(&self, place: &Place) -> Result<Known, Problem> {
        let first = format!("{}&limit={PAGE}", self.target(place));
        let mut target = first.clone();
        let mut view = View::default();
        let mut began_anew = false;
        let mut pages = 0;
        loop {
            let body = match ask(place, &target).await {
                Ok(mut answer) => answer.whole(PATIENCE, ANSWER).await?,
                // The rest of the list was forgotten before we asked for it.
                Err(Problem::Status(410, _)) if !began_anew && pages > 0 => {
                    (began_anew, pages) = (true, 0);
                    view = View::default();
                    target.clone_from(&first);
                    continue;
                }
                Err(problem) => return Err(problem),
            };
            let page = messages::read_page(&body, self.settings.port.as_ref());
            let page = page.map_err(Problem::Content)?;
            for slice in page.slices {
                view.put(slice);
            }
            pages += 1;
            match page.next {
                Some(next) if pages < PAGES && !view.is_full() => {
                    target = format!("{first}&continue={}", encoded(&next));
                }
                next => {
                    // The server need not count what remains.
                    let remaining = next.map_or(0, |_| page.remaining.max(1));
                    view.leave_out(remaining);
                    return Ok(Known {
                        view,
                        version: page.version,
                        listed: Instant::now(),
                    });
                }
            }
        }
    }

    /// Follows the changes until the watch ends.
    async fn watch(&mut self, mut answer: Answer, end: Instant) -> Result<Ended, Problem> {
        self.confirm();
        let mut lines = Lines::new(ANSWER);
        let mut to_tell: Option<Instant> = None;
        let ended = loop {
            let until = to_tell.unwrap_or(end).min(end);
            let piece = timeout_at(until, answer.piece()).await;
            if to_tell.is_some_and(|at| Instant::now() >= at) {
                self.tell();
                to_tell = None;
            }
            let piece = match piece {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break Ok(Ended::InTime),
                Ok(Err(problem)) => break Err(problem),
                Err(_) if Instant::now() >= end => {
                    let problem = "the watch was not ended in its time: the connection is dead";
                    break Err(Problem::Malformed(problem));
                }
                Err(_) => continue,
            };
            match self.take(lines.take(&piece)?)? {
                None => return Ok(Ended::Lost),
                Some(true) => {
                    to_tell.get_or_insert_with(|| Instant::now() + TOGETHER);
                }
                Some(false) => self.confirm(),
            }
        };
        // What came with the last words counts.
        match (to_tell, &ended) {
            (Some(_), _) => self.tell(),
            (None, Ok(_)) => self.confirm(),
            (None, Err(_)) => {}
        }
        ended
    }

    /// Takes events over; whether anything changed, or `None` when all must be listed anew.
    fn take(&mut self, lines: Vec<Vec<u8>>) -> Result<Option<bool>, Problem> {
        let Some(known) = &mut self.known else {
            return Ok(None);
        };
        let mut has_changed = false;
        for line in lines {
            let event = messages::read_watch(&line, self.settings.port.as_ref());
            let version = match event.map_err(Problem::Content)? {
                Watched::Put(slice, version) => {
                    known.view.put(slice);
                    has_changed = true;
                    version
                }
                Watched::Gone(name, version) => {
                    known.view.remove(&name);
                    has_changed = true;
                    version
                }
                Watched::Mark(version) => version,
                Watched::Lost => return Ok(None),
                Watched::Failed(message) => return Err(Problem::Content(message)),
            };
            known.version = version;
        }
        Ok(Some(has_changed))
    }

    fn tell(&mut self) {
        let Some(known) = &self.known else { return };
        let discovered = known.view.discovered(self.settings.family);
        self.is_told = match known.view.problem() {
            Some(problem) if discovered.is_empty() => {
                self.reporter.failed(problem);
                false
            }
            _ => self.reporter.answered(discovered),
        };
    }

    fn confirm(&self) {
        if self.is_told {
            self.reporter.confirmed();
        }
    }

    fn failed(&mut self, problem: &Problem) {
        let Some(place) = &self.place else {
            return self.reporter.failed(&problem.to_string());
        };
        let text = refusal::told(place, problem, &RIGHTS);
        self.reporter.failed(&format!("{}: {text}", place.server));
    }

    fn target(&self, place: &Place) -> String {
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector={}{}",
            place.namespace,
            encoded("kubernetes.io/service-name="),
            self.settings.service
        )
    }
}

/// How a watch ended.
enum Ended {
    InTime,
    Lost,
}

async fn ask(place: &Place, target: &str) -> Result<Answer, Problem> {
    let question = Question {
        target,
        ..Question::default()
    };
    place.ask(&question, PATIENCE).await
}
