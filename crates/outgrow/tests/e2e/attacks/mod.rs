//! Attacks by one host on the real binary: those that go on using it wait at most twice as long (p99),
//! and what it costs the data process stays within limits that have names. Each attack's limits are in
//! `table.rs`, with their reasons.
//!
//! Every attack runs shortly with all tests; `cargo xtask conform attacks` measures them, in rounds,
//! against an optimised binary. Not here: HTTP/3's own attacks (`http3/`), which need its library.

mod field;
mod frames;
mod http1;
mod http2;
mod http2_slow;
mod inflate;
mod line;
mod proxy;
mod table;
mod tls;
mod udp;

use std::{env, time::Duration};

use field::{Form, Measured, Tally, Target, Watch, measure};
use serde_json::json;
use table::ATTACKS;

const MIB: u64 = 1024 * 1024;

/// One attack.
struct Attack {
    name: &'static str,
    /// What the attacker does, and how fast.
    what: &'static str,
    run: fn(&Target, &Watch<'_>) -> Tally,
    limits: Limits,
    /// What outgrow must have done about it.
    answer: fn(&Tally) -> bool,
}

/// What an attack may cost.
struct Limits {
    /// Memory of the data process beyond what it held before, in MiB.
    memory: u64,
    /// Time of one processor beyond what it used before, in percent.
    processor: f64,
    /// Why as much.
    reason: &'static str,
}

/// For every run: memory, what outgrow does about it, and that nobody starves.
const SHORT: Form = Form {
    time: Duration::from_millis(1_500),
    rounds: 1,
    more: Duration::from_millis(400),
    is_exact: false,
};

/// As the issue says; for a machine that does nothing else.
const LONG: Form = Form {
    time: Duration::from_secs(5),
    rounds: 3,
    more: Duration::from_millis(2),
    is_exact: true,
};

/// What was measured, and what of it is not as it must be.
struct Verdict {
    measured: Measured,
    problems: Vec<String>,
}

fn judge(attack: &Attack, form: &Form) -> Verdict {
    let (target, measured) = measure(attack, form);
    let limits = &attack.limits;
    let mut problems = Vec::new();
    let most = measured.alone * 2 + form.more;
    if measured.attacked > most {
        problems.push(format!(
            "others waited {:?}, more than {most:?}",
            measured.attacked
        ));
    }
    if measured.memory > limits.memory * MIB {
        problems.push(format!(
            "{} MiB of memory, more than {}",
            measured.memory / MIB,
            limits.memory
        ));
    }
    if form.is_exact && measured.processor > limits.processor {
        problems.push(format!(
            "{:.0} % of a processor, more than {:.0}",
            measured.processor, limits.processor
        ));
    }
    if measured.tally.sent < 20 || !(attack.answer)(&measured.tally) {
        problems.push("outgrow's answer is not the one that it must have".to_owned());
    }
    if let Err(error) = target.outgrow.stop() {
        problems.push(format!("it does not stop in order: {error}"));
    }
    Verdict { measured, problems }
}

fn short(attack: &Attack) {
    let Verdict { measured, problems } = judge(attack, &SHORT);
    eprintln!("{}: {measured:?}", attack.name);
    assert!(
        problems.is_empty(),
        "{}: {problems:?}: {measured:?}",
        attack.name
    );
}

/// Prints one object for each attack; for `cargo xtask conform attacks`.
#[test]
#[ignore = "long: cargo xtask conform attacks"]
fn all_of_them_at_length() {
    let only = env::var("OUTGROW_ATTACKS").unwrap_or_default();
    let chosen = ATTACKS
        .iter()
        .filter(|attack| only.is_empty() || only.split(',').any(|name| attack.name.contains(name)));
    let mut failed = 0;
    for attack in chosen {
        let Verdict { measured, problems } = judge(attack, &LONG);
        failed += usize::from(!problems.is_empty());
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let tally = &measured.tally;
        println!(
            "\n{}",
            json!({
                "attack": attack.name, "what": attack.what,
                "p99_alone_ms": milliseconds(measured.alone),
                "p99_attacked_ms": milliseconds(measured.attacked),
                "memory_mib": measured.memory as f64 / MIB as f64,
                "memory_limit_mib": attack.limits.memory,
                "processor_percent": measured.processor,
                "processor_limit_percent": attack.limits.processor,
                "reason": attack.limits.reason,
                "sent": tally.sent, "connections": tally.connections, "told": tally.told,
                "bytes_out": tally.bytes_out, "bytes_in": tally.bytes_in,
                "problems": problems,
            })
        );
    }
    assert_eq!(failed, 0, "attacks that cost more than they may");
}
