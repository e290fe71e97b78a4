//! The metrics: from cells to families.

mod boxes;
mod certificates;
mod compressed;
pub(super) mod datagrams;
mod diagnosis;
pub(super) mod failovers;
mod handover;
mod logins;
pub(super) mod postgres;
pub(super) mod promotions;
mod quic;
mod seats;
pub(super) mod streams;
mod tunnels;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use outgrow_admin::{MetricFamily, Number, Sample};
use outgrow_core::metrics::{Counter, names};
use outgrow_edge::metrics::{FloorCells, PerWorker, RouteCells, total};
use outgrow_upstream::EjectionCause;
use serde_json::{Value, json};

use super::measure::Used;
use super::resources;
use super::view::{InstanceView, View};

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

type Numbers = Vec<Sample<Number>>;

/// All metrics now.
pub(super) fn families(view: &View) -> Vec<MetricFamily> {
    let mut families = route_families(view);
    families.extend(compressed::families(view));
    families.extend(tunnels::families(view));
    families.extend(listener_families(view));
    families.extend(streams::families(view.streams().as_deref()));
    families.extend(datagrams::families(view.streams().as_deref()));
    families.extend(quic::families(view));
    families.extend(service_families(view));
    families.extend(discovery_families(view));
    families.extend(boxes::families(view));
    families.extend(certificates::families(view));
    families.extend(postgres::families(view.postgres().as_deref()));
    families.extend(promotions::families(&view.promotions()));
    families.extend(process_families(view));
    let instances = view.instances();
    families.extend(instance_families(&instances));
    families.extend(resources::families(view.machine().as_ref(), &instances));
    families
}

fn sum(counters: impl Iterator<Item = u64>) -> u64 {
    counters.fold(0, u64::wrapping_add)
}

fn over<T: Default>(cells: &PerWorker<T>, counter: impl Fn(&T) -> &Counter) -> u64 {
    sum(cells.all().iter().map(|cells| counter(cells).get()))
}

fn route_families(view: &View) -> Vec<MetricFamily> {
    let routes = view.shared.metrics.routes();
    let mut requests = Numbers::new();
    let mut durations = Vec::new();
    let mut first_bytes = Vec::new();
    let (mut retries, mut truncated) = (Numbers::new(), Numbers::new());
    let (mut mirrored, mut failed, mut dropped) = (Numbers::new(), Numbers::new(), Numbers::new());
    for route in &routes {
        let name = route.name.as_str();
        for (class, word) in CLASSES.iter().enumerate() {
            let count = over(route, |cells| &cells.by_class[class]);
            if count > 0 {
                requests.push(Sample::number(&[("route", name), ("class", word)], count));
            }
        }
        let labels = [("route", name)];
        let all = route.all();
        durations.push(Sample::times(
            &labels,
            total(all.iter().map(|cells| &cells.duration)),
        ));
        first_bytes.push(Sample::times(
            &labels,
            total(all.iter().map(|cells| &cells.first_byte)),
        ));
        retries.push(Sample::number(&labels, over(route, |cells| &cells.retries)));
        truncated.push(Sample::number(
            &labels,
            over(route, |cells| &cells.truncated),
        ));
        let counters = [
            (&mut mirrored, over(route, |cells| &cells.mirrored)),
            (&mut failed, over(route, |cells| &cells.mirrors_failed)),
            (&mut dropped, over(route, |cells| &cells.mirrors_dropped)),
        ];
        // Only of routes that mirror: the others would be three lines of zeros each.
        if counters.iter().any(|(_, count)| *count > 0) {
            for (numbers, count) in counters {
                numbers.push(Sample::number(&labels, count));
            }
        }
    }
    vec![
        MetricFamily::counter(names::REQUESTS, "Requests answered.", requests),
        MetricFamily::histogram(
            names::REQUEST_SECONDS,
            "From a request's first byte to the end of its response.",
            durations,
        ),
        MetricFamily::histogram(
            names::UPSTREAM_SECONDS,
            "From a request sent to the head of the endpoint's response.",
            first_bytes,
        ),
        MetricFamily::counter(names::RETRIES, "Requests sent again.", retries),
        MetricFamily::counter(
            names::TRUNCATED,
            "Responses cut off by endpoints.",
            truncated,
        ),
        MetricFamily::counter(
            names::MIRRORED,
            "Copies of requests sent to a mirror's service and answered.",
            mirrored,
        ),
        MetricFamily::counter(
            names::MIRROR_FAILED,
            "Copies of requests sent and not answered.",
            failed,
        ),
        MetricFamily::counter(
            names::MIRROR_DROPPED,
            "Requests not mirrored: too large, too many at a time, or no room at the service.",
            dropped,
        ),
    ]
}

fn listener_families(view: &View) -> Vec<MetricFamily> {
    let (mut accepted, mut refused, mut received, mut sent, mut open) = (
        Numbers::new(),
        Numbers::new(),
        Numbers::new(),
        Numbers::new(),
        Numbers::new(),
    );
    for listener in view.shared.metrics.listeners() {
        let labels = [("listener", listener.workers.name.as_str())];
        let cells = &listener.workers;
        accepted.push(Sample::number(
            &labels,
            over(cells, |cells| &cells.accepted),
        ));
        refused.push(Sample::number(&labels, over(cells, |cells| &cells.refused)));
        received.push(Sample::number(
            &labels,
            over(cells, |cells| &cells.received_bytes),
        ));
        sent.push(Sample::number(
            &labels,
            over(cells, |cells| &cells.sent_bytes),
        ));
        open.push(Sample::number(&labels, listener.open.get()));
    }
    vec![
        MetricFamily::counter(names::CONNECTIONS, "Connections accepted.", accepted),
        MetricFamily::counter(
            names::CONNECTIONS_REFUSED,
            "Connections turned away at max_connections.",
            refused,
        ),
        MetricFamily::gauge(names::CONNECTIONS_OPEN, "Connections open now.", open),
        MetricFamily::counter(names::RECEIVED_BYTES, "Bytes of request bodies.", received),
        MetricFamily::counter(names::SENT_BYTES, "Bytes of response bodies.", sent),
    ]
}

fn service_families(view: &View) -> Vec<MetricFamily> {
    let (mut panic, mut queue) = (Numbers::new(), Numbers::new());
    let mut unevenness = Numbers::new();
    let (mut up, mut active) = (Numbers::new(), Numbers::new());
    let (mut requests, mut failures) = (Numbers::new(), Numbers::new());
    let (mut ejections, mut connects) = (Numbers::new(), Numbers::new());
    for service in view.registry.state(view.shared.clock.now()) {
        let labels = [("service", service.name.as_str())];
        panic.push(Sample::number(&labels, service.panic));
        queue.push(Sample::number(&labels, service.queue));
        unevenness.push(Sample::number(&labels, service.unevenness()));
        for endpoint in &service.endpoints {
            let name = endpoint.instance.as_deref().unwrap_or(&endpoint.address);
            if endpoint.health == "draining" || endpoint.health == "failed" {
                continue;
            }
            let labels = [("service", service.name.as_str()), ("endpoint", name)];
            up.push(Sample::number(&labels, endpoint.usable));
            active.push(Sample::number(&labels, endpoint.active));
            requests.push(Sample::number(&labels, endpoint.requests));
            failures.push(Sample::number(&labels, endpoint.failures));
            for (cause, count) in endpoint.ejections_by_cause {
                let [service, endpoint] = labels;
                let labels = [service, endpoint, ("reason", cause.as_str())];
                // The rules that are off by default are told of once they did something.
                if count > 0 || cause == EjectionCause::ConsecutiveFailures {
                    ejections.push(Sample::number(&labels, count));
                }
            }
            connects.push(Sample::number(&labels, endpoint.connects));
        }
    }
    vec![
        MetricFamily::gauge(
            names::SERVICE_PANIC,
            "1 while all endpoints are used because too few are healthy.",
            panic,
        ),
        MetricFamily::gauge(
            names::SERVICE_QUEUE,
            "Requests waiting for an endpoint.",
            queue,
        ),
        MetricFamily::gauge(
            names::SERVICE_UNEVENNESS,
            "The largest multiple of its due in flight that an endpoint has; 1 is even.",
            unevenness,
        ),
        MetricFamily::gauge(names::ENDPOINT_UP, "1 when the endpoint gets requests.", up),
        MetricFamily::gauge(names::ENDPOINT_ACTIVE, "Requests in flight.", active),
        MetricFamily::counter(names::ENDPOINT_REQUESTS, "Requests sent.", requests),
        MetricFamily::counter(names::ENDPOINT_FAILURES, "Failures that count.", failures),
        MetricFamily::counter(names::ENDPOINT_EJECTIONS, "Ejections.", ejections),
        MetricFamily::counter(names::UPSTREAM_CONNECTS, "Connections made.", connects),
    ]
}

fn discovery_families(view: &View) -> Vec<MetricFamily> {
    let (mut age, mut failing) = (Numbers::new(), Numbers::new());
    let (mut endpoints, mut left_out) = (Numbers::new(), Numbers::new());
    let (mut failures, mut changes) = (Numbers::new(), Numbers::new());
    for (service, state) in view.discoveries() {
        let labels = [("service", service.as_str())];
        if let Some(since) = state.age {
            age.push(Sample::number(&labels, since.as_secs_f64()));
        }
        failing.push(Sample::number(&labels, state.problem.is_some()));
        endpoints.push(Sample::number(&labels, state.endpoints as u64));
        left_out.push(Sample::number(&labels, state.left_out as u64));
        failures.push(Sample::number(&labels, state.failures));
        changes.push(Sample::number(&labels, state.changes));
    }
    vec![
        MetricFamily::gauge(
            names::DISCOVERY_AGE,
            "Seconds since the source of a service's endpoints last answered.",
            age,
        ),
        MetricFamily::gauge(
            names::DISCOVERY_FAILING,
            "1 while the source fails; what it told last is used.",
            failing,
        ),
        MetricFamily::gauge(
            names::DISCOVERY_ENDPOINTS,
            "Endpoints discovered.",
            endpoints,
        ),
        MetricFamily::gauge(
            names::DISCOVERY_LEFT_OUT,
            "Endpoints told by the source that cannot be used or are too many.",
            left_out,
        ),
        MetricFamily::counter(names::DISCOVERY_FAILURES, "Answers that failed.", failures),
        MetricFamily::counter(
            names::DISCOVERY_CHANGES,
            "How often the endpoints became others.",
            changes,
        ),
    ]
}

fn process_families(view: &View) -> Vec<MetricFamily> {
    let workers = &view.shared.metrics.worker;
    let mut faults: Vec<(&'static str, u64)> = Vec::new();
    let mut lag = Numbers::new();
    for (index, worker) in workers.iter().enumerate() {
        for (cause, count) in worker.faults().filter(|&(_, count)| count > 0) {
            match faults
                .iter_mut()
                .find(|(reason, _)| *reason == cause.reason())
            {
                Some((_, sum)) => *sum += count,
                None => faults.push((cause.reason(), count)),
            }
        }
        let number = index.to_string();
        let seconds = worker.lag_micros.get() as f64 / 1e6;
        lag.push(Sample::number(&[("worker", number.as_str())], seconds));
    }
    let faults = faults
        .into_iter()
        .map(|(reason, sum)| Sample::number(&[("reason", reason)], sum));
    let one = |value: u64| [Sample::number(&[], value)];
    let panics = sum(workers.iter().map(|worker| worker.panics.get()));
    let floors = |read: fn(&FloorCells) -> &Counter| {
        sum(workers.iter().map(|worker| read(&worker.floors).get()))
    };
    let tickets = [
        ("given", floors(|cells| &cells.given)),
        ("refused", floors(|cells| &cells.refused)),
        ("unknown", floors(|cells| &cells.unknown)),
    ];
    let tickets = tickets.map(|(result, count)| Sample::number(&[("result", result)], count));
    let done = view.reloads.load(Ordering::Relaxed);
    let refused = view.refused_reloads.load(Ordering::Relaxed);
    let reloads = [
        Sample::number(&[("result", "done")], done),
        Sample::number(&[("result", "refused")], refused),
    ];
    let (ledger, files) = (&view.shared.ledger, &view.shared.open_files);
    vec![
        MetricFamily::counter(names::FAULTS, "Requests that failed, by reason.", faults),
        MetricFamily::gauge(
            names::WORKER_LAG,
            "The latest that a timer was in a second.",
            lag,
        ),
        MetricFamily::gauge(
            names::LEDGER_BYTES,
            "Bytes of buffers in use.",
            one(ledger.used_bytes()),
        ),
        MetricFamily::counter(
            names::LEDGER_REFUSED,
            "Buffers refused because [process] memory was used up.",
            one(ledger.refused()),
        ),
        MetricFamily::gauge(
            names::LEDGER_FORESEEN,
            "Of the bytes of buffers in use, those that clients of HTTP/3 could make outgrow hold with \
             requests that are not there as a whole, and by wider windows: a third of [process] memory \
             at most. WebSockets that were opened while memory was not short are not among them.",
            one(ledger.foreseen_bytes()),
        ),
        MetricFamily::counter(
            names::LEDGER_UNFORESEEN,
            "Requests of HTTP/3 that did not come as a whole and got 503 since that share was used up, \
             by all or by the client's address, or memory was short.",
            one(ledger.refused_foreseen()),
        ),
        MetricFamily::gauge(
            names::FILES_OPEN,
            "Files that are open while they are sent.",
            one(files.open()),
        ),
        MetricFamily::gauge(
            names::FILES_OPEN_LIMIT,
            "Files that may be open while they are sent ([process] max_open_files).",
            one(files.most()),
        ),
        MetricFamily::counter(
            names::FILES_REFUSED,
            "Files that were not sent since so many were open already.",
            one(files.refused()),
        ),
        MetricFamily::counter(
            names::RECORDS_LOST,
            "Access records that could not be written.",
            one(view.records.lost()),
        ),
        MetricFamily::counter(
            names::EVENTS_LOST,
            "Events of endpoints that came too fast to be logged.",
            one(view.registry.events_lost()),
        ),
        MetricFamily::counter(names::PANICS, "Tasks that panicked.", one(panics)),
        MetricFamily::counter(names::RELOADS, "Reloads.", reloads),
        MetricFamily::counter(
            names::FLOOR_TICKETS,
            "Tickets of what users wrote: given, refused (not ours), not known in time.",
            tickets,
        ),
    ]
}

fn instance_families(instances: &[InstanceView]) -> Vec<MetricFamily> {
    let (mut cpu, mut memory) = (Numbers::new(), Numbers::new());
    let (mut restarts, mut held) = (Numbers::new(), Numbers::new());
    for instance in instances {
        let report = &instance.known.report;
        let labels = [("instance", report.spec.name.as_str())];
        // While one replaces another of the same name, the one that stays is told.
        if instance.known.is_leaving() {
            continue;
        }
        restarts.push(Sample::number(&labels, report.restarts));
        held.push(Sample::number(&labels, u64::from(instance.known.held)));
        if let Some(Used { resources, .. }) = instance.used {
            cpu.push(Sample::number(&labels, resources.cpu.as_secs_f64()));
            memory.push(Sample::number(&labels, resources.resident_bytes));
        }
    }
    vec![
        MetricFamily::counter(names::INSTANCE_CPU, "Processor time used.", cpu),
        MetricFamily::gauge(names::INSTANCE_MEMORY, "Resident memory.", memory),
        MetricFamily::counter(names::INSTANCE_RESTARTS, "Restarts.", restarts),
        MetricFamily::gauge(
            names::INSTANCE_HELD,
            "Whether the liveness check fails and the restart is held back.",
            held,
        ),
    ]
}

/// The routes' numbers for the state.
pub(super) fn routes(view: &View) -> Vec<Value> {
    view.shared.metrics.routes().iter().map(route).collect()
}

fn route(cells: &Arc<PerWorker<RouteCells>>) -> Value {
    let all = cells.all();
    let duration = total(all.iter().map(|cells| &cells.duration));
    let by_class: serde_json::Map<String, Value> = CLASSES
        .iter()
        .enumerate()
        .map(|(class, word)| {
            (
                (*word).to_owned(),
                over(cells, |cells| &cells.by_class[class]).into(),
            )
        })
        .collect();
    json!({
        "name": cells.name,
        "requests": duration.count(),
        "by_class": by_class,
        "retries": over(cells, |cells| &cells.retries),
        "truncated": over(cells, |cells| &cells.truncated),
        "upgraded": over(cells, |cells| &cells.tunnels.begun),
        "upgraded_open": all.iter().map(|cells| cells.tunnels.open.get()).sum::<i64>(),
        "p50_us": duration.quantile(0.5),
        "p99_us": duration.quantile(0.99),
    })
}
