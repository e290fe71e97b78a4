//! When an endpoint is left out because of how its requests ended: `[service.NAME.outlier]`.
//!
//! Failures in a row eject by default, as with the peers. The rules that compare endpoints over an
//! interval are off unless they are written: no peer ejects by them unasked (Envoy has its success
//! rate on as soon as outlier detection is configured at all), and they judge by difference alone,
//! so that in a service in which nothing fails one that fails a little is ejected.

use std::time::Duration;

use outgrow_balance::outlier::statistics::{FailurePercentage, SlowResponses, SuccessRate};
use outgrow_core::settings::{Percent, TableReader};

use super::{DAY, HOUR, MILLI};

const SECOND: Duration = Duration::from_secs(1);

outgrow_core::settings! {
    /// Passive ejection: an endpoint that fails requests gets none for a while. Failures in a row
    /// eject by default; `success_rate`, `failure_percentage` and `slow_responses` compare what
    /// the endpoints did in an interval and are off unless they are written (`{}` has their
    /// defaults).
    #[check = check_outlier]
    pub struct OutlierSettings {
        /// Failures in a row that eject: 502, 503 and 504 from the endpoint, failures to connect,
        /// resets. 0: off.
        pub consecutive_failures: u32 = 5, in 0..=10_000;
        /// How long the first ejection lasts; the next ones last this times the number of
        /// ejections in a row. A check that asks for an answer and passes `rise` times in a row
        /// ends one for failures in a row sooner; a check that only connects does not, and no
        /// check ends one by the rules below: it passed while they were broken.
        pub eject: Duration = Duration::from_secs(10), in MILLI..=HOUR;
        /// The longest that an ejection lasts.
        pub eject_max: Duration = Duration::from_secs(300), in MILLI..=DAY;
        /// Percent of the service's endpoints that may be ejected at a time. One may always be,
        /// all of them never.
        pub max_ejected: Percent = Percent::new(50);
        /// The time over which the rules below count.
        pub interval: Duration = Duration::from_secs(10), in SECOND..=HOUR;
        /// Ejects endpoints that fail more than the others do. Left out: off.
        pub success_rate: Option<SuccessRateSettings> = None, shown = "off";
        /// Ejects endpoints that fail most of their requests, if not in a row. Left out: off.
        pub failure_percentage: Option<FailurePercentageSettings> = None, shown = "off";
        /// Ejects endpoints that answer much later than the others. Left out: off.
        pub slow_responses: Option<SlowResponsesSettings> = None, shown = "off";
    }
}

outgrow_core::settings! {
    /// Endpoints whose success rate is further below the mean of all than so many standard
    /// deviations. In a service in which nothing fails, one endpoint that fails one request in two
    /// hundred is ejected: for services whose failures matter that much.
    pub struct SuccessRateSettings {
        /// Standard deviations below the mean, in percent: 190 is 1.9 of them.
        pub deviations: u32 = 190, in 10..=1_000;
        /// Endpoints with enough requests in the interval, fewer are not compared.
        pub least_endpoints: u32 = 5, in 3..=10_000;
        /// Requests that an endpoint needs in the interval to be looked at.
        pub least_requests: u32 = 100, in 1..=1_000_000;
    }
}

outgrow_core::settings! {
    /// Endpoints of whose requests at least so many percent fail in the interval.
    pub struct FailurePercentageSettings {
        /// Percent of the requests.
        pub percent: u32 = 85, in 1..=100;
        /// Endpoints with enough requests in the interval, with fewer nobody is ejected.
        pub least_endpoints: u32 = 5, in 2..=10_000;
        /// Requests that an endpoint needs in the interval to be looked at.
        pub least_requests: u32 = 50, in 1..=1_000_000;
    }
}

outgrow_core::settings! {
    /// Endpoints whose mean time to the head of the answer is several times the median of the
    /// others, and much longer. Answers only: requests that failed are not counted.
    pub struct SlowResponsesSettings {
        /// How many times the median of the others, in percent: 300 is three times.
        pub percent: u32 = 300, in 110..=10_000;
        /// How much longer than it at least.
        pub least_excess: Duration = Duration::from_millis(50), in MILLI..=HOUR;
        /// Endpoints with enough requests in the interval, fewer are not compared.
        pub least_endpoints: u32 = 3, in 2..=10_000;
        /// Requests that an endpoint needs in the interval to be looked at.
        pub least_requests: u32 = 50, in 1..=1_000_000;
    }
}

impl OutlierSettings {
    /// Whether one of the rules that count over an interval is on.
    pub(crate) fn compares(&self) -> bool {
        self.success_rate.is_some()
            || self.failure_percentage.is_some()
            || self.slow_responses.is_some()
    }
}

impl SuccessRateSettings {
    pub(crate) fn rule(&self) -> SuccessRate {
        SuccessRate {
            least_endpoints: self.least_endpoints as usize,
            least_requests: self.least_requests.into(),
            deviations_thousandths: self.deviations * 10,
        }
    }
}

impl FailurePercentageSettings {
    pub(crate) fn rule(&self) -> FailurePercentage {
        FailurePercentage {
            least_endpoints: self.least_endpoints as usize,
            least_requests: self.least_requests.into(),
            percent: u8::try_from(self.percent).unwrap_or(100),
        }
    }
}

impl SlowResponsesSettings {
    pub(crate) fn rule(&self) -> SlowResponses {
        SlowResponses {
            least_endpoints: self.least_endpoints as usize,
            least_requests: self.least_requests.into(),
            percent: self.percent,
            least_excess: self.least_excess,
        }
    }
}

fn check_outlier(outlier: &OutlierSettings, table: &mut TableReader<'_, '_>) {
    if outlier.eject_max < outlier.eject {
        let message = "eject_max is below eject, the length of the first ejection";
        let key = if table.has("eject_max") {
            "eject_max"
        } else {
            "eject"
        };
        table.problem(key, message, "set eject_max at least as long as eject");
    }
    if outlier.interval != OutlierSettings::default().interval && !outlier.compares() {
        let message = "`interval` means nothing without a rule that counts over it";
        let hint = "write success_rate, failure_percentage or slow_responses, or remove it";
        table.problem("interval", message, hint);
    }
}
