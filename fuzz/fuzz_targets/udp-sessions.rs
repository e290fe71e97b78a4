//! The sessions of datagrams: whatever comes and whenever, they are bounded, a source has one, who
//! goes on after an answer stays, and nothing is left of those that ended.
#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outgrow_core::Ticks;
use outgrow_stream::udp::sessions::{Arrival, Limits, SessionId, Sessions};

/// Steps of one input: enough for all sessions to come and go several times.
const MOST_STEPS: usize = 200;

/// What is known of a session.
#[derive(Debug)]
struct Known {
    id: SessionId,
    last: Ticks,
    answered: bool,
    proven: bool,
}

/// Whether `one` may be the next that gives way to `id`: the oldest that was never answered, else any
/// that was, whose source did not go on, and that is quiet.
fn may_go(known: &BTreeMap<SocketAddr, Known>, id: SessionId, now: Ticks, one: SessionId) -> bool {
    let others = || known.values().filter(move |known| known.id != id);
    let unanswered = others().filter(|known| !known.answered);
    match unanswered.map(|known| known.id).min() {
        Some(oldest) => one == oldest,
        None => others().any(|known| {
            let is_quiet = known.last + Duration::from_secs(1) <= now;
            known.id == one && known.answered && !known.proven && is_quiet
        }),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[sessions, of_address, idle, responses], steps)) = input.split_first_chunk::<4>()
    else {
        return;
    };
    let limits = Limits {
        sessions: 1 + usize::from(sessions % 16),
        of_address: usize::from(of_address % 8),
        idle: Duration::from_millis(1 + 16 * u64::from(idle)),
        responses: u32::from(responses % 4),
    };
    let mut all = Sessions::default();
    let mut known: BTreeMap<SocketAddr, Known> = BTreeMap::new();
    let mut now = Ticks::ZERO;
    for step in steps.chunks_exact(3).take(MOST_STEPS) {
        let [what, which, time] = [step[0], step[1], step[2]];
        now = now + Duration::from_millis(u64::from(time));
        match what % 3 {
            0 => {
                let address = [192, 0, 2, which >> 5];
                let source = SocketAddr::from((address, 1_000 + u16::from(which & 31)));
                match all.arrive(source, 1 + u32::from(what >> 6), &limits, now) {
                    Arrival::Known(id) => {
                        let one = known.get_mut(&source).expect("it is known");
                        assert_eq!(one.id, id);
                        one.last = now;
                        one.proven |= one.answered;
                    }
                    Arrival::New(id, gone) => {
                        if let Some(gone) = gone {
                            assert!(may_go(&known, id, now, gone));
                            known.retain(|_, one| one.id != gone);
                        }
                        let one = Known {
                            id,
                            last: now,
                            answered: false,
                            proven: false,
                        };
                        assert!(known.insert(source, one).is_none());
                        // There is no room for it at the endpoints.
                        if what & 0x20 != 0 {
                            let gone = all.unanswered_gives_way(Some(id));
                            let gone = gone.or_else(|| all.quiet_gives_way(now));
                            let is_right = |one: &Known| may_go(&known, id, now, one.id);
                            match gone {
                                Some(gone) => assert!(may_go(&known, id, now, gone)),
                                None => assert!(!known.values().any(is_right)),
                            }
                            known.retain(|_, one| Some(one.id) != gone);
                        }
                    }
                    Arrival::Full => {
                        assert_eq!(known.len(), limits.sessions);
                        let nobody = SessionId::default();
                        let is_right = |one: &Known| may_go(&known, nobody, now, one.id);
                        assert!(!known.values().any(is_right));
                    }
                    Arrival::FullAddress => {
                        let same = known.keys().filter(|one| one.ip() == source.ip());
                        assert_eq!(same.count(), limits.of_address);
                    }
                }
            }
            1 => {
                let place = usize::from(which) % known.len().max(1);
                if let Some((&source, one)) = known.iter_mut().nth(place) {
                    let id = one.id;
                    (one.last, one.answered) = (now, true);
                    if all.answered(id, 1 + u32::from(what >> 6), &limits, now) {
                        known.remove(&source);
                    }
                }
            }
            _ => known.retain(|_, one| {
                let ends_at = all.ends_at(one.id, &limits).expect("it is known");
                let ended = all.expire(one.id, &limits, now).is_some();
                assert_eq!(ended, ends_at <= now);
                !ended
            }),
        }
        assert_eq!(all.len(), known.len());
        assert!(all.len() <= limits.sessions);
    }
    for one in known.values() {
        all.end(one.id);
        assert_eq!(all.ends_at(one.id, &limits), None);
    }
    assert!(all.is_empty());
});
