//! Weights from the load that backends report (ORCA), as Envoy's and gRPC's client-side weighted
//! round robin compute them (gRFC A58): an endpoint that does its requests with less utilisation
//! gets more of them. The weights are for a table of any algorithm; which and how often it is
//! compiled anew (Envoy: every second) is the caller's.

use std::time::Duration;

use outgrow_core::Ticks;

/// The weight of the strongest endpoint in what [`weights`] returns: the others are rounded to
/// a thousandth of it.
pub const LARGEST_WEIGHT: u32 = 1_000;

/// What a backend says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// How busy it is as it sees itself; 1 is full, above is overloaded. 0 is not said.
    pub application_utilization: f64,
    /// How busy its CPUs are, taken when the application says nothing; 1 is all of them.
    pub cpu_utilization: f64,
    /// Requests per second that it serves.
    pub requests_per_second: f64,
    /// Those of them that fail, per second.
    pub errors_per_second: f64,
}

impl Report {
    /// From the header `endpoint-load-metrics` in its text form:
    /// `TEXT cpu_utilization=0.3, rps_fractional=120, eps=2`. Unknown names are passed over; `None`
    /// when it has another form or a number is none, is negative or infinite.
    pub fn from_text(header: &str) -> Option<Self> {
        let mut report = Self::default();
        for pair in header.strip_prefix("TEXT")?.split(',') {
            let (name, value) = pair.split_once('=')?;
            let field = match name.trim() {
                "application_utilization" => &mut report.application_utilization,
                "cpu_utilization" => &mut report.cpu_utilization,
                "rps_fractional" => &mut report.requests_per_second,
                "eps" => &mut report.errors_per_second,
                _ => continue,
            };
            let value: f64 = value.trim().parse().ok()?;
            if !value.is_finite() || value < 0.0 {
                return None;
            }
            *field = value;
        }
        Some(report)
    }

    /// requests / (utilisation + errors / requests x penalty), per second; `None` when it says too
    /// little.
    fn weight(&self, error_penalty: f64) -> Option<f64> {
        let utilization = if self.application_utilization > 0.0 {
            self.application_utilization
        } else {
            self.cpu_utilization
        };
        let penalty = self.errors_per_second / self.requests_per_second * error_penalty;
        let weight = self.requests_per_second / (utilization + penalty.max(0.0));
        (utilization > 0.0 && weight.is_finite() && weight > 0.0).then_some(weight)
    }
}

/// The knobs, with Envoy's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Reports are not used for this long after the first one: what just started is busy with
    /// itself. Default 10 s.
    pub blackout: Duration,
    /// A report is forgotten after this long. Default 3 min.
    pub expiration: Duration,
    /// How much a share of errors counts as utilisation. Default 1.
    pub error_penalty: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            error_penalty: 1.0,
        }
    }
}

/// The reports of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    latest: Option<Latest>,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    weight: f64,
    /// When reports began, without a gap as long as the expiration.
    since: Ticks,
    at: Ticks,
}

impl Reported {
    /// Takes note of a report; one that says too little is passed over.
    pub fn observe(&mut self, report: &Report, settings: &Settings, now: Ticks) {
        let Some(weight) = report.weight(settings.error_penalty) else {
            return;
        };
        let since = match self.latest {
            Some(latest) if now.since(latest.at) < settings.expiration => latest.since,
            _ => now,
        };
        self.latest = Some(Latest {
            weight,
            since,
            at: now,
        });
    }

    /// The weight that may be used now, in no particular unit.
    pub fn weight(&self, settings: &Settings, now: Ticks) -> Option<f64> {
        let latest = self.latest?;
        let is_used = now.since(latest.at) < settings.expiration
            && now.since(latest.since) >= settings.blackout;
        is_used.then_some(latest.weight)
    }
}

/// Weights for a table, 1 to [`LARGEST_WEIGHT`]: those unknown have the median of the known ones;
/// all are equal while fewer than two are known.
pub fn weights(known: &[Option<f64>]) -> Vec<u32> {
    let mut sorted: Vec<f64> = known.iter().copied().flatten().collect();
    if sorted.len() < 2 {
        return vec![LARGEST_WEIGHT; known.len()];
    }
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    };
    let largest = sorted[sorted.len() - 1];
    known
        .iter()
        .map(|weight| {
            let part = weight.unwrap_or(median) / largest;
            ((part * f64::from(LARGEST_WEIGHT)).round() as u32).clamp(1, LARGEST_WEIGHT)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(utilization: f64, requests: f64, errors: f64) -> Report {
        Report {
            cpu_utilization: utilization,
            requests_per_second: requests,
            errors_per_second: errors,
            ..Report::default()
        }
    }

    #[test]
    fn weights_are_requests_for_utilisation() {
        let check = |report: Report, expected: Option<f64>| {
            let got = report.weight(1.0);
            let near = |(one, other): (f64, f64)| (one - other).abs() < 1e-9;
            assert!(
                got.is_some() == expected.is_some() && got.zip(expected).is_none_or(near),
                "{report:?}: {got:?}"
            );
        };
        check(report(0.5, 100.0, 0.0), Some(200.0));
        check(report(0.5, 100.0, 50.0), Some(100.0));
        check(report(0.0, 100.0, 0.0), None);
        check(report(0.5, 0.0, 0.0), None);
        check(report(f64::NAN, 10.0, 0.0), None);
        check(report(0.5, f64::INFINITY, 0.0), None);
        let by_application = Report {
            application_utilization: 2.0,
            ..report(0.5, 100.0, 0.0)
        };
        check(by_application, Some(50.0));
    }

    #[test]
    fn headers_are_read() {
        let check = |header: &str, expected: Option<Report>| {
            assert_eq!(Report::from_text(header), expected, "{header}");
        };
        check(
            "TEXT cpu_utilization=0.3, rps_fractional=120,eps=2, mem_utilization=x",
            Some(report(0.3, 120.0, 2.0)),
        );
        check("TEXT cpu_utilization=0.3", Some(report(0.3, 0.0, 0.0)));
        for odd in [
            "",
            "JSON {}",
            "TEXT",
            "TEXT cpu_utilization",
            "TEXT cpu_utilization=-1",
            "TEXT cpu_utilization=NaN",
            "TEXT cpu_utilization=inf",
        ] {
            check(odd, None);
        }
    }

    #[test]
    fn blackout_and_expiration() {
        let settings = Settings::default();
        let at = |seconds: u64| Ticks::ZERO + Duration::from_secs(seconds);
        let mut reported = Reported::default();
        assert_eq!(reported.weight(&settings, at(0)), None);
        reported.observe(&report(0.5, 1.0, 0.0), &settings, at(100));
        assert_eq!(reported.weight(&settings, at(109)), None);
        assert_eq!(reported.weight(&settings, at(110)), Some(2.0));
        assert_eq!(reported.weight(&settings, at(279)), Some(2.0));
        assert_eq!(reported.weight(&settings, at(280)), None);
        reported.observe(&report(0.0, 1.0, 0.0), &settings, at(281));
        assert_eq!(reported.weight(&settings, at(281)), None, "says nothing");
        reported.observe(&report(0.25, 1.0, 0.0), &settings, at(300));
        assert_eq!(reported.weight(&settings, at(309)), None, "a new blackout");
        reported.observe(&report(0.5, 1.0, 0.0), &settings, at(309));
        assert_eq!(reported.weight(&settings, at(310)), Some(2.0));
    }

    #[test]
    fn the_unknown_have_the_median() {
        let check = |known: &[Option<f64>], expected: &[u32]| {
            assert_eq!(weights(known), expected, "{known:?}");
        };
        check(&[], &[]);
        check(&[None, Some(5.0)], &[1_000, 1_000]);
        check(&[Some(10.0), Some(5.0)], &[1_000, 500]);
        check(&[Some(10.0), None, Some(5.0)], &[1_000, 750, 500]);
        check(
            &[Some(8.0), None, Some(2.0), Some(4.0)],
            &[1_000, 500, 250, 500],
        );
        check(&[Some(1e300), Some(1e-300)], &[1_000, 1]);
    }
}
