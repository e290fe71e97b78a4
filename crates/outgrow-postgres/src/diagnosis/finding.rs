//! What was found: its kind, whom and which statement it is about, evidence and the next step; and
//! the bounded collection of what holds at present or did a short time ago.
//!
//! A finder says the same finding again for as long as it holds ([`Findings::note`]); what nobody
//! says again is over after a while and forgotten later. So finders keep no state about what they
//! have said. Texts of findings hold no values of statements: those may be anybody's secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outgrow_core::Ticks;

use super::routes::Requests;

/// Most findings at a time. Beyond it the least severe that was not said for longest goes.
pub const MOST: usize = 256;
/// Most lines of evidence.
pub const MOST_EVIDENCE: usize = 12;
/// Most bytes of a line of evidence.
pub const MOST_LINE_BYTES: usize = 400;
/// Most bytes of a remedy, and of a statement's text.
pub const MOST_TEXT_BYTES: usize = 4096;
/// For how long a finding holds after it was said last.
pub const HOLDS: Duration = Duration::from_secs(60);
/// For how long a finding is told after it was said last.
pub const KEPT: Duration = Duration::from_secs(3600);

/// What is wrong. The names ([`Kind::as_str`]) are stable: programs read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Clients wait for connections; the evidence says who has them, and why.
    PoolExhausted,
    /// One statement for each row of another one's result.
    NPlusOne,
    /// A transaction is open for long.
    LongTransaction,
    /// A client says nothing in an open transaction for long.
    IdleInTransaction,
    /// A statement takes long each time.
    SlowStatement,
    /// A statement reads far more rows than it needs.
    MissingIndex,
    /// A statement waits for what another transaction has locked.
    LockWait,
    /// Transactions that waited for one another's locks were ended by the server.
    Deadlock,
    /// A replica is behind.
    ReplicaLag,
    /// Reads that would be from memory are from disk, as after a restart.
    ColdCache,
    /// Nobody knows which instance a client is, so it reads from the primary.
    UnplacedClient,
    /// The primary is gone and nothing takes its place, or a promotion has come to nothing.
    PromotionStuck,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::PoolExhausted,
        Self::NPlusOne,
        Self::LongTransaction,
        Self::IdleInTransaction,
        Self::SlowStatement,
        Self::MissingIndex,
        Self::LockWait,
        Self::Deadlock,
        Self::ReplicaLag,
        Self::ColdCache,
        Self::UnplacedClient,
        Self::PromotionStuck,
    ];

    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolExhausted => "pool_exhausted",
            Self::NPlusOne => "n_plus_one",
            Self::LongTransaction => "long_transaction",
            Self::IdleInTransaction => "idle_in_transaction",
            Self::SlowStatement => "slow_statement",
            Self::MissingIndex => "missing_index",
            Self::LockWait => "lock_wait",
            Self::Deadlock => "deadlock",
            Self::ReplicaLag => "replica_lag",
            Self::ColdCache => "cold_cache",
            Self::UnplacedClient => "unplaced_client",
            Self::PromotionStuck => "promotion_stuck",
        }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It could be better.
    Notice,
    /// It costs users time.
    Warning,
    /// Users are refused, or are about to be.
    Critical,
}

impl Severity {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A statement as findings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its fingerprint ([`crate::sql::fingerprint::fingerprint`]); 0 when it has none.
    pub fingerprint: u64,
    /// Without values ([`crate::sql::fingerprint::normalised`]).
    pub normalised: Arc<str>,
}

impl Text {
    /// The fingerprint as it is shown: 16 hexadecimal digits.
    pub fn name(&self) -> String {
        format!("{:016x}", self.fingerprint)
    }
}

/// Where in an application something comes from, as far as the client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The route that a comment tells (`/*route='/users/:id'*/`).
    pub route: Option<Arc<str>>,
    /// The HTTP requests that it is part of, by what the client's instance has in flight.
    pub requests: Option<Requests>,
    /// Controller and action of a comment (`controller#action`).
    pub action: Option<Arc<str>>,
    /// The trace (`traceparent`) of the last one that was seen.
    pub trace: Option<Arc<str>>,
    /// What the application calls itself: `application_name`.
    pub application: Option<Arc<str>>,
    /// The client's address.
    pub client: Option<Arc<str>>,
}

impl Origin {
    /// The most specific of what is known, for people.
    pub fn name(&self) -> Option<String> {
        let all = [&self.action, &self.application, &self.client];
        let other = all.into_iter().flatten().next();
        self.shown_route().or(other.map(|one| one.to_string()))
    }

    /// Takes over what another one of the same kind tells of the requests, if that is more.
    pub(crate) fn join(&mut self, other: &Self) {
        match (&mut self.requests, &other.requests) {
            (Some(own), Some(other)) => own.join(other),
            (own @ None, Some(other)) => *own = Some(other.clone()),
            _ => {}
        }
    }

    /// The route for people, by whatever it is known.
    pub fn shown_route(&self) -> Option<String> {
        let told = self.route.as_ref().map(|route| route.to_string());
        told.or_else(|| self.requests.as_ref().map(Requests::shown))
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// The database, as clients call it; empty when it is about a server as a whole.
    pub database: Arc<str>,
    /// The user.
    pub user: Option<Arc<str>>,
    /// The server, by its address, where it is about one of several.
    pub server: Option<Arc<str>>,
    /// The statement.
    pub statement: Option<Text>,
    /// Where in the application it comes from.
    pub origin: Option<Origin>,
    /// Short lines with numbers.
    pub evidence: Vec<String>,
    /// What to do: the index, the batched query, the setting.
    pub remedy: String,
}

/// What makes two findings the same one at different times: what it is about, but not where in the
/// application it was seen last, nor the numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    database: Arc<str>,
    user: Option<Arc<str>>,
    server: Option<Arc<str>>,
    fingerprint: u64,
    route: Option<Arc<str>>,
}

impl Finding {
    fn key(&self) -> Key {
        Key {
            kind: self.kind,
            database: Arc::clone(&self.database),
            user: self.user.clone(),
            server: self.server.clone(),
            fingerprint: self.statement.as_ref().map_or(0, |text| text.fingerprint),
            route: self.origin.as_ref().and_then(|origin| origin.route.clone()),
        }
    }

    /// Whether it says that it is of one of some requests, and an earlier one of which.
    fn is_less_sure_than(&self, earlier: &Self) -> bool {
        let requests = |one: &Self| one.origin.as_ref()?.requests.clone();
        let (Some(own), Some(earlier)) = (requests(self), requests(earlier)) else {
            return false;
        };
        let only = earlier.only();
        own.only().is_none() && only.is_some_and(|only| own.routes.contains(only))
    }

    /// Keeps to the limits.
    fn bound(&mut self) {
        self.evidence.truncate(MOST_EVIDENCE);
        for line in &mut self.evidence {
            cut(line, MOST_LINE_BYTES);
        }
        cut(&mut self.remedy, MOST_TEXT_BYTES);
        if let Some(text) = &mut self.statement
            && text.normalised.len() > MOST_TEXT_BYTES
        {
            let mut line = text.normalised.to_string();
            cut(&mut line, MOST_TEXT_BYTES);
            text.normalised = line.into();
        }
    }
}

/// Leaves so many bytes of a text at most.
fn cut(text: &mut String, most_bytes: usize) {
    if text.len() <= most_bytes {
        return;
    }
    let mut end = most_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
}

/// A finding with when it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What was said last.
    pub finding: Finding,
    /// When it was said first.
    pub since: Ticks,
    /// When it was said last.
    pub last: Ticks,
    /// How often.
    pub times: u64,
}

impl Noted {
    /// Whether it holds at present, as far as one can tell.
    pub fn holds(&self, now: Ticks) -> bool {
        now.since(self.last) < HOLDS
    }
}

/// All that was found and is not forgotten.
#[derive(Debug, Default)]
pub struct Findings {
    all: BTreeMap<Key, Noted>,
    evicted: u64,
}

impl Findings {
    /// Takes note of a finding; true when it is new, or was over: worth a line in the log.
    pub fn note(&mut self, mut finding: Finding, now: Ticks) -> bool {
        finding.bound();
        let key = finding.key();
        if let Some(known) = self.all.get_mut(&key) {
            let is_again = !known.holds(now);
            if !is_again && finding.is_less_sure_than(&known.finding) {
                finding.origin = known.finding.origin.take();
                finding.remedy = std::mem::take(&mut known.finding.remedy);
            }
            known.finding = finding;
            known.last = now;
            known.times += 1;
            return is_again;
        }
        self.expire(now);
        if self.all.len() >= MOST {
            self.evict();
        }
        let noted = Noted {
            finding,
            since: now,
            last: now,
            times: 1,
        };
        self.all.insert(key, noted);
        true
    }

    /// Forgets what was not said for long.
    pub fn expire(&mut self, now: Ticks) {
        self.all.retain(|_, noted| now.since(noted.last) < KEPT);
    }

    fn evict(&mut self) {
        let least = self
            .all
            .iter()
            .min_by_key(|(_, noted)| (noted.finding.severity, noted.last))
            .map(|(key, _)| key.clone());
        if let Some(key) = least {
            self.all.remove(&key);
            self.evicted += 1;
        }
    }

    /// All of them, what holds first, then by severity, then what was said last.
    pub fn all(&self, now: Ticks) -> Vec<Noted> {
        let is_kept = |noted: &&Noted| now.since(noted.last) < KEPT;
        let mut all: Vec<Noted> = self.all.values().filter(is_kept).cloned().collect();
        all.sort_by_key(|noted| {
            let order = (noted.holds(now), noted.finding.severity, noted.last);
            std::cmp::Reverse(order)
        });
        all
    }

    /// How many of a kind hold.
    pub fn count(&self, kind: Kind, now: Ticks) -> usize {
        let of_kind = |noted: &&Noted| noted.finding.kind == kind && noted.holds(now);
        self.all.values().filter(of_kind).count()
    }

    /// Findings that made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::Ground;
    use super::*;

    fn finding(kind: Kind, severity: Severity, fingerprint: u64) -> Finding {
        Finding {
            kind,
            severity,
            database: "shop".into(),
            user: None,
            server: None,
            statement: Some(Text {
                fingerprint,
                normalised: "SELECT $1".into(),
            }),
            origin: None,
            evidence: Vec::new(),
            remedy: String::new(),
        }
    }

    fn at(seconds: u64) -> Ticks {
        Ticks(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_said_again_is_the_same() {
        let mut findings = Findings::default();
        let slow = || finding(Kind::SlowStatement, Severity::Notice, 7);
        assert!(findings.note(slow(), at(0)));
        assert!(!findings.note(slow(), at(30)), "it still holds");
        assert!(findings.note(slow(), at(200)), "it was over");
        let all = findings.all(at(210));
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].since, all[0].last, all[0].times),
            (at(0), at(200), 3)
        );
        assert!(all[0].holds(at(210)) && !all[0].holds(at(260)));
        assert_eq!(findings.count(Kind::SlowStatement, at(210)), 1);
        assert_eq!(findings.count(Kind::SlowStatement, at(260)), 0);
        assert!(findings.all(at(200) + KEPT).is_empty());
    }

    #[test]
    fn the_route_stays_as_sure_as_it_was() {
        let slow = |routes: &[&str], ground| {
            let routes = routes.iter().map(|&name| name.into()).collect();
            Finding {
                origin: Some(Origin {
                    requests: Some(Requests { routes, ground }),
                    ..Origin::default()
                }),
                remedy: format!("{ground:?}"),
                ..finding(Kind::SlowStatement, Severity::Notice, 7)
            }
        };
        let mut findings = Findings::default();
        let mut told = |routes: &[&str], ground, seconds| {
            findings.note(slow(routes, ground), at(seconds));
            let all = findings.all(at(seconds));
            let route = all[0].finding.origin.as_ref().and_then(Origin::shown_route);
            (route.unwrap_or_default(), all[0].finding.remedy.clone())
        };
        let check = |told: (String, String), route: &str, remedy: &str| {
            assert_eq!((&*told.0, &*told.1), (route, remedy));
        };
        check(told(&["a", "b"], Ground::OneOf, 0), "one of a, b", "OneOf");
        check(told(&["a"], Ground::Alone, 1), "a", "Alone");
        check(told(&["b", "a"], Ground::OneOf, 2), "a", "Alone");
        check(told(&["b"], Ground::Statistics, 3), "b", "Statistics");
        check(told(&["a", "c"], Ground::OneOf, 4), "one of a, c", "OneOf");
        check(told(&["a"], Ground::Alone, 5), "a", "Alone");
        // It was over in between.
        check(
            told(&["a", "c"], Ground::OneOf, 500),
            "one of a, c",
            "OneOf",
        );
    }

    #[test]
    fn what_matters_comes_first_and_stays() {
        let mut findings = Findings::default();
        findings.note(finding(Kind::PoolExhausted, Severity::Critical, 0), at(0));
        for number in 0..2 * MOST as u64 {
            let notice = finding(Kind::SlowStatement, Severity::Notice, number);
            findings.note(notice, at(number / 100));
        }
        let all = findings.all(at(10));
        assert_eq!(all.len(), MOST);
        assert_eq!(all[0].finding.kind, Kind::PoolExhausted);
        assert_eq!(findings.evicted(), MOST as u64 + 1);
    }

    #[test]
    fn texts_are_bounded() {
        let mut findings = Findings::default();
        let mut long = finding(Kind::NPlusOne, Severity::Warning, 1);
        long.evidence = vec!["ü".repeat(MOST_LINE_BYTES); 2 * MOST_EVIDENCE];
        long.remedy = "x".repeat(2 * MOST_TEXT_BYTES);
        findings.note(long, at(0));
        let noted = &findings.all(at(0))[0].finding;
        assert_eq!(noted.evidence.len(), MOST_EVIDENCE);
        assert!(noted.evidence[0].len() <= MOST_LINE_BYTES + '…'.len_utf8());
        assert!(noted.remedy.len() <= MOST_TEXT_BYTES + '…'.len_utf8());
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
