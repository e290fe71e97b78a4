//! The connections to each Postgres server, in the metrics and the state.

use outgrow_admin::{MetricFamily, Sample};
use outgrow_core::metrics::names;
use outgrow_postgres::Shared;
use outgrow_postgres::seats::SeatsView;
use serde_json::{Value, json};

use super::Numbers;

type Read = fn(&SeatsView) -> Option<u64>;

const GAUGES: [(&str, &str, Read); 3] = [
    (
        names::POSTGRES_SERVER_CONNECTIONS,
        "Connections to a server, of all pools.",
        |seats| Some(u64::from(seats.used)),
    ),
    (
        names::POSTGRES_SERVER_LIMIT,
        "Most connections to a server.",
        |seats| seats.limit.map(u64::from),
    ),
    (
        names::POSTGRES_SERVER_WAITING,
        "Connections that pools want and cannot have yet.",
        |seats| Some(u64::from(seats.waiting)),
    ),
];

/// All metrics now.
pub(super) fn families(shared: &Shared) -> Vec<MetricFamily> {
    let all = shared.seats();
    let numbers = |read: Read| -> Numbers {
        let read = |seats: &SeatsView| {
            let labels = [("server", seats.address.as_str())];
            read(seats).map(|number| Sample::number(&labels, number))
        };
        all.iter().filter_map(read).collect()
    };
    let gauges = GAUGES.into_iter();
    let mut families: Vec<_> = gauges
        .map(|(name, help, read)| MetricFamily::gauge(name, help, numbers(read)))
        .collect();
    let help = "Connections that one pool gave up for another.";
    let given_up = numbers(|seats| Some(seats.given_up));
    families.push(MetricFamily::counter(
        names::POSTGRES_GIVEN_UP,
        help,
        given_up,
    ));
    families
}

/// For `/state`.
pub(super) fn state(shared: &Shared) -> Value {
    let one = |seats: SeatsView| {
        json!({
            "server": seats.address,
            "used": seats.used,
            "limit": seats.limit,
            "wanted": seats.waiting,
            "given_up": seats.given_up,
            "max_connections": seats.capacity.map(|one| one.connections),
            "reserved": seats.capacity.map(|one| one.reserved),
        })
    };
    Value::Array(shared.seats().into_iter().map(one).collect())
}
