//! What the listener shows and does, as a trait that the binary implements.
//!
//! That two actions do not run into each other is the source's to see to: they come from signals
//! and watched files too, not only from here.

use std::path::PathBuf;
use std::pin::Pin;

use serde::Deserialize;
use serde_json::Value;

use crate::families::MetricFamily;

/// Whether traffic should come here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// It should, though not everything works.
    ReadyWithout {
        /// What does not, for people: one line.
        reason: String,
    },
    /// It should go elsewhere.
    NotReady {
        /// Why, for people: one line, for example `draining` or `service app has no endpoint`.
        reason: String,
    },
}

/// An action under way. It is polled to its end even when the caller goes away, so it must end by
/// itself: with a report, or with a problem when its own patience is over.
pub type Action<'a> =
    Pin<Box<dyn Future<Output = Result<ActionReport, ActionProblem>> + Send + 'a>>;

/// What the listener shows and does. Called on the control runtime: nothing here may block.
pub trait Source: Send + Sync {
    /// Whether traffic should come here. Asked often, so it must be cheap.
    fn ready(&self) -> Readiness;

    /// All metrics now. Each family once, each set of labels once in its family.
    fn families(&self) -> Vec<MetricFamily>;

    /// All state now, for people and programs.
    fn state(&self) -> Value;

    /// Where a service answers, with weights and health; `None` when there is no such service.
    fn endpoints(&self, service: &str) -> Option<Value>;

    /// Whether this box holds the leader lease, with more about it; `None` when there is none.
    fn leader(&self) -> Option<(bool, Value)>;

    /// Reads the configuration anew and takes it over, if it is valid.
    fn reload(&self) -> Action<'_>;

    /// Hands over to a new data process of `binary` (an absolute path), or of the one that runs.
    fn upgrade(&self, binary: Option<PathBuf>) -> Action<'_>;

    /// Begins to replace all instances of a service. Ends as soon as that has begun: how it goes is
    /// in the state.
    fn deploy(&self, service: String) -> Action<'_>;

    /// Begins to make another server of a Postgres service its primary, or tells what would be done.
    /// Ends as soon as that has begun: how it goes is in the state.
    fn promote(&self, request: PromoteRequest) -> Action<'_>;

    /// Begins to stop everything. Ends as soon as that has begun, so that it can be answered.
    fn stop(&self) -> Action<'_>;
}

/// What is asked for by who wants another primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// The service; none: the only one that has replicas to promote.
    pub service: Option<String>,
    /// The address of the replica; none: the one that is furthest.
    pub to: Option<String>,
    /// Promote although the old primary is not fenced.
    pub force_without_fence: bool,
    /// Promote although something that was acknowledged may be lost.
    pub accept_loss: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionReport {
    /// One sentence for people.
    pub message: String,
    /// More, for programs; left out of the answer when null.
    pub details: Value,
}

impl ActionReport {
    /// A report of one sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            details: Value::Null,
        }
    }

    /// Adds details for programs.
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

/// Why an action was not done. Nothing has changed then, unless the message says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionProblem {
    /// What was asked for is not acceptable, for example an invalid file. Answered with 422.
    #[error("{message}")]
    Refused {
        /// What is wrong, in one sentence.
        message: String,
        /// Each single finding, for example an error of the file with its line and hint.
        details: Vec<String>,
    },
    /// Something else is under way that must end first. Answered with 409.
    #[error("{0}")]
    Busy(String),
    /// It cannot be done the way outgrow was started. Answered with 501.
    #[error("{0}")]
    Unsupported(String),
    /// It was tried and failed. Answered with 500.
    #[error("{0}")]
    Failed(String),
}

impl ActionProblem {
    /// The HTTP status that stands for it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused { .. } => 422,
            Self::Busy(_) => 409,
            Self::Unsupported(_) => 501,
            Self::Failed(_) => 500,
        }
    }
}
