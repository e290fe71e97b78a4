//! What instances may use and use, and what the machine has left, as `/state` and the metrics show
//! it. How it is measured is in [`super::measure`].

use outgrow_admin::{MetricFamily, Number, Sample};
use outgrow_core::metrics::names;
use outgrow_fleet::machine::Machine;
use outgrow_fleet::protocol::InstanceReport;
use outgrow_fleet::protocol::limits::Limits;
use outgrow_fleet::supervise::room::{PerInstance, Rest, Room, room};
use serde_json::{Value, json};

use super::measure::MachineUsed;
use super::view::InstanceView;

type Numbers = Vec<Sample<Number>>;

/// Thousandths as a number.
fn cores(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

/// How the limits of an instance stand, in one word.
fn standing(report: &InstanceReport) -> Option<&'static str> {
    let wanted = report.spec.limits;
    let Some(limits) = &report.limits else {
        return wanted.is_any().then_some("pending");
    };
    if !wanted.is_any() && !limits.in_force.is_any() {
        return None;
    }
    Some(
        match (limits.problems.is_empty(), limits.in_force.is_any()) {
            (true, _) => "enforced",
            (false, true) => "partly enforced",
            (false, false) => "not enforced",
        },
    )
}

/// An instance's limits for the state; null where it has none.
pub(super) fn limits(view: &InstanceView) -> Value {
    let report = &view.known.report;
    let Some(standing) = standing(report) else {
        return Value::Null;
    };
    let told = |limits: &Limits| {
        json!({
            "cpu_cores": limits.cpu_thousandths.map(|cpu| cores(cpu.into())),
            "memory_bytes": limits.memory_bytes,
            "processes": limits.processes,
        })
    };
    let usage = view.used.map(|used| used.usage).unwrap_or_default();
    json!({
        "state": standing,
        "reasons": report.limits.as_ref().map(|limits| &limits.problems),
        "wanted": told(&report.spec.limits),
        "in_force": report.limits.as_ref().map(|limits| told(&limits.in_force)),
        "throttled_ms": usage.throttled.map(|time| time.as_millis() as u64),
        "oom_kills": usage.oom_kills,
        "memory_counted_bytes": usage.memory_bytes,
        "processes_counted": usage.processes,
    })
}

/// What is left of the machine: of its processors, and of what outgrow is allowed where that is
/// less.
fn rest(machine: Option<&MachineUsed>, instances: &[InstanceView]) -> Rest {
    let Some(MachineUsed { now, used_share }) = machine else {
        return Rest::default();
    };
    let all = now.processors.saturating_mul(1_000);
    let idle = used_share.map(|share| (all as f64 * (1.0 - share)) as u64);
    let by_instances: u64 = instances
        .iter()
        .filter_map(|view| view.used?.cpu_thousandths)
        .fold(0, u64::saturating_add);
    let allowed = now.cpu_thousandths.saturating_sub(by_instances);
    let cpu_thousandths = match now.cpu_thousandths < all {
        true => idle.map(|idle| idle.min(allowed)),
        false => idle,
    };
    Rest {
        cpu_thousandths,
        memory_bytes: now.memory_available_bytes,
    }
}

/// What the instance of a service that uses the most uses; those that leave do not count.
fn per_instance(service: &str, instances: &[InstanceView]) -> Option<PerInstance> {
    let of_service = |view: &&InstanceView| {
        view.known.report.spec.service == service && !view.known.is_leaving()
    };
    let mut used = instances.iter().filter(of_service).map(|view| {
        view.used
            .map_or_else(PerInstance::default, |used| PerInstance {
                cpu_thousandths: used.cpu_thousandths,
                memory_bytes: Some(used.resources.resident_bytes).filter(|bytes| *bytes > 0),
            })
    });
    let first = used.next()?;
    Some(used.fold(first, PerInstance::most))
}

/// How many more instances of a service would fit; null for a service without instances.
pub(super) fn service_room(
    service: &str,
    machine: Option<&MachineUsed>,
    instances: &[InstanceView],
) -> Value {
    let Some((rest, each, room)) = room_of(service, machine, instances) else {
        return Value::Null;
    };
    json!({
        "more_instances": room.more,
        "by_cpu": room.by_cpu,
        "by_memory": room.by_memory,
        "cannot_tell": room.reasons,
        "cpu_cores_each": each.cpu_thousandths.map(cores),
        "memory_bytes_each": each.memory_bytes,
        "cpu_cores_left": rest.cpu_thousandths.map(cores),
        "memory_bytes_left": rest.memory_bytes,
    })
}

fn room_of(
    service: &str,
    machine: Option<&MachineUsed>,
    instances: &[InstanceView],
) -> Option<(Rest, PerInstance, Room)> {
    let each = per_instance(service, instances)?;
    let rest = rest(machine, instances);
    Some((rest, each, room(rest, each)))
}

/// The machine for the state.
pub(super) fn machine(machine: Option<&MachineUsed>, instances: &[InstanceView]) -> Value {
    let Some(MachineUsed { now, used_share }) = machine else {
        return Value::Null;
    };
    let Machine {
        load,
        processors,
        memory_total_bytes,
        memory_available_bytes,
        pressure,
        ..
    } = now;
    json!({
        "cores": cores(now.cpu_thousandths),
        "processors": processors,
        "load": load,
        "cpu_used_share": used_share,
        "cpu_cores_left": rest(machine, instances).cpu_thousandths.map(cores),
        "memory_total_bytes": memory_total_bytes,
        "memory_available_bytes": memory_available_bytes,
        "pressure": {
            "cpu": pressure.cpu,
            "memory": pressure.memory,
            "io": pressure.io,
        },
    })
}

/// All of this as metrics.
pub(super) fn families(
    used: Option<&MachineUsed>,
    instances: &[InstanceView],
) -> Vec<MetricFamily> {
    let mut families = limit_families(instances);
    families.extend(machine_families(used, instances));
    families
}

fn limit_families(instances: &[InstanceView]) -> Vec<MetricFamily> {
    let (mut cpu, mut memory, mut enforced) = (Numbers::new(), Numbers::new(), Numbers::new());
    let (mut throttled, mut killed) = (Numbers::new(), Numbers::new());
    for view in instances.iter().filter(|view| !view.known.is_leaving()) {
        let report = &view.known.report;
        let labels = [("instance", report.spec.name.as_str())];
        let Some(standing) = standing(report) else {
            continue;
        };
        enforced.push(Sample::number(&labels, standing == "enforced"));
        let in_force = report.limits.as_ref().map(|limits| limits.in_force);
        let in_force = in_force.unwrap_or_default();
        if let Some(limit) = in_force.cpu_thousandths {
            cpu.push(Sample::number(&labels, cores(limit.into())));
        }
        if let Some(limit) = in_force.memory_bytes {
            memory.push(Sample::number(&labels, limit));
        }
        let usage = view.used.map(|used| used.usage).unwrap_or_default();
        if let Some(time) = usage.throttled {
            throttled.push(Sample::number(&labels, time.as_secs_f64()));
        }
        if let Some(kills) = usage.oom_kills {
            killed.push(Sample::number(&labels, kills));
        }
    }
    vec![
        MetricFamily::gauge(
            names::INSTANCE_CPU_LIMIT,
            "Cores that the instance may use.",
            cpu,
        ),
        MetricFamily::gauge(
            names::INSTANCE_MEMORY_LIMIT,
            "Bytes that the instance may use.",
            memory,
        ),
        MetricFamily::gauge(
            names::INSTANCE_LIMITS_ENFORCED,
            "1 when all limits of the instance are enforced.",
            enforced,
        ),
        MetricFamily::counter(
            names::INSTANCE_THROTTLED,
            "Time held back at the processor limit since the instance's start.",
            throttled,
        ),
        MetricFamily::counter(
            names::INSTANCE_OOM_KILLS,
            "Processes killed at the memory limit since the instance's start.",
            killed,
        ),
    ]
}

fn machine_families(used: Option<&MachineUsed>, instances: &[InstanceView]) -> Vec<MetricFamily> {
    let Some(MachineUsed { now, used_share }) = used else {
        return Vec::new();
    };
    let one = |value: Option<f64>| -> Numbers {
        value
            .map(|value| Sample::number(&[], value))
            .into_iter()
            .collect()
    };
    let bytes = |value: Option<u64>| -> Numbers {
        value
            .map(|value| Sample::number(&[], value))
            .into_iter()
            .collect()
    };
    let pressure = [
        ("cpu", now.pressure.cpu),
        ("memory", now.pressure.memory),
        ("io", now.pressure.io),
    ];
    let pressure = pressure
        .into_iter()
        .filter_map(|(what, share)| Some(Sample::number(&[("resource", what)], share?)));
    let mut services: Vec<&str> = instances
        .iter()
        .map(|view| view.known.report.spec.service.as_str())
        .collect();
    services.sort_unstable();
    services.dedup();
    let room = services.into_iter().filter_map(|service| {
        let (_, _, room) = room_of(service, used, instances)?;
        Some(Sample::number(&[("service", service)], room.more?))
    });
    vec![
        MetricFamily::gauge(
            names::MACHINE_CORES,
            "Cores that outgrow and what it runs may use.",
            one(Some(cores(now.cpu_thousandths))),
        ),
        MetricFamily::gauge(
            names::MACHINE_CPU_USED,
            "The share of all processors in use in the last ten seconds.",
            one(*used_share),
        ),
        MetricFamily::gauge(
            names::MACHINE_MEMORY,
            "Bytes of memory that there are, or that outgrow is allowed.",
            bytes(now.memory_total_bytes),
        ),
        MetricFamily::gauge(
            names::MACHINE_MEMORY_AVAILABLE,
            "Bytes of memory that can be had.",
            bytes(now.memory_available_bytes),
        ),
        MetricFamily::gauge(
            names::MACHINE_PRESSURE,
            "The share of the last ten seconds in which something waited for it.",
            pressure,
        ),
        MetricFamily::gauge(
            names::SERVICE_ROOM,
            "How many more instances the machine has room for, by what was measured.",
            room,
        ),
    ]
}
