//! What happens to endpoints, told to the log and to whoever runs the instances.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::endpoint::{Endpoint, EndpointId};

/// Which endpoint an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The service's name.
    pub service: String,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its address as text.
    pub address: String,
    /// The instance that answers there, when outgrow runs it.
    pub instance: Option<String>,
}

impl Subject {
    pub(crate) fn new(service: &str, endpoint: &Endpoint) -> Self {
        Self {
            service: service.to_owned(),
            endpoint: endpoint.id(),
            address: endpoint.label().to_owned(),
            instance: endpoint.instance().map(str::to_owned),
        }
    }
}

/// Something that happened to an endpoint or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its checks pass now; for an instance: it became ready.
    EndpointUp(Subject),
    /// Its checks fail, or its instance is known to be dead.
    EndpointDown {
        /// Which.
        subject: Subject,
        /// Why, for people.
        reason: String,
    },
    /// It failed too many requests, or answers too slowly, and gets none for a while.
    Ejected {
        /// Which.
        subject: Subject,
        /// By which rule.
        cause: EjectionCause,
        /// What it did, for people: goes on after "it".
        why: String,
        /// For how long.
        time: Duration,
        /// Ejections in a row.
        in_a_row: u32,
    },
    /// Its ejection ended.
    Returned(Subject),
    /// All endpoints of a service are used because too few are healthy, or no more.
    Panic {
        /// The service's name.
        service: String,
        /// Whether it began.
        on: bool,
        /// Healthy endpoints.
        healthy: usize,
        /// Endpoints that could be healthy.
        known: usize,
    },
    /// The check of a service asks too much. Told once for each check.
    Advice {
        /// The service's name.
        service: String,
        /// What is seen and what to change, for people.
        text: String,
    },
    /// The liveness check of an instance failed often enough. Told again at each further failure.
    NotLive {
        /// Which.
        subject: Subject,
        /// Why, for people.
        reason: String,
        /// Whether the instance answers, and has never answered as it should: then the check may
        /// be what is wrong, such as a mistyped path.
        doubtful: bool,
    },
}

/// The rule by which an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// Failures in a row.
    ConsecutiveFailures,
    /// It fails more than the others.
    SuccessRate,
    /// It fails most of its requests.
    FailurePercentage,
    /// It answers much later than the others.
    SlowResponses,
}

impl EjectionCause {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [
        Self::ConsecutiveFailures,
        Self::SuccessRate,
        Self::FailurePercentage,
        Self::SlowResponses,
    ];

    /// As the setting is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::SlowResponses => "slow_responses",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

/// Where events go. Nothing waits for whoever listens: what does not fit is counted as lost.
#[derive(Debug, Default)]
pub(crate) struct Events {
    sender: Mutex<Option<mpsc::Sender<Event>>>,
    lost: AtomicU64,
}

impl Events {
    pub(crate) fn subscribe(&self, capacity: usize) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(crate) fn emit(&self, event: Event) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref()
            && sender.try_send(event).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
