//! The sessions of datagrams: whatever comes and whenever, they are bounded, a source has one, who was
//! answered stays, and nothing is left of those that ended.
#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outgrow_core::Ticks;
use outgrow_stream::udp::sessions::{Arrival, Limits, SessionId, Sessions};

/// Steps of one input: enough for all sessions to come and go several times.
const MOST_STEPS: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((&[sessions, of_address, idle, responses], steps)) = input.split_first_chunk::<4>()
    else {
        return;
    };
    let limits = Limits {
        sessions: 1 + usize::from(sessions % 16),
        of_address: usize::from(of_address % 8),
        idle: Duration::from_millis(1 + u64::from(idle)),
        responses: u32::from(responses % 4),
    };
    let mut all = Sessions::default();
    // By source: the session and whether it was answered.
    let mut known: BTreeMap<SocketAddr, (SessionId, bool)> = BTreeMap::new();
    let mut now = Ticks::ZERO;
    for step in steps.chunks_exact(3).take(MOST_STEPS) {
        let [what, which, time] = [step[0], step[1], step[2]];
        now = now + Duration::from_millis(u64::from(time));
        match what % 3 {
            0 => {
                let address = [192, 0, 2, which >> 5];
                let source = SocketAddr::from((address, 1_000 + u16::from(which & 31)));
                match all.arrive(source, 1 + u32::from(what >> 6), &limits, now) {
                    Arrival::Known(id) => assert_eq!(known[&source].0, id),
                    Arrival::New(id, gone) => {
                        if let Some(gone) = gone {
                            assert!(known.values().any(|one| *one == (gone, false)));
                            known.retain(|_, one| one.0 != gone);
                        }
                        assert!(known.insert(source, (id, false)).is_none());
                        // There is no room for it at the endpoints.
                        if what & 0x20 != 0 {
                            let gone = all.give_way_to(id);
                            let others = known.values().filter(|one| !one.1 && one.0 != id);
                            assert_eq!(gone, others.map(|one| one.0).min());
                            known.retain(|_, one| Some(one.0) != gone);
                        }
                    }
                    Arrival::Full => {
                        assert_eq!(known.len(), limits.sessions);
                        assert!(known.values().all(|one| one.1));
                    }
                    Arrival::FullAddress => {
                        let same = known.keys().filter(|one| one.ip() == source.ip());
                        assert_eq!(same.count(), limits.of_address);
                    }
                }
            }
            1 => {
                let place = usize::from(which) % known.len().max(1);
                if let Some((&source, &(id, _))) = known.iter().nth(place) {
                    known.insert(source, (id, true));
                    if all.answered(id, 1 + u32::from(what >> 6), &limits, now) {
                        known.remove(&source);
                    }
                }
            }
            _ => known.retain(|_, one| {
                let ends_at = all.ends_at(one.0, &limits).expect("it is known");
                let ended = all.expire(one.0, &limits, now).is_some();
                assert_eq!(ended, ends_at <= now);
                !ended
            }),
        }
        assert_eq!(all.len(), known.len());
        assert!(all.len() <= limits.sessions);
    }
    for (id, _) in known.values() {
        all.end(*id);
        assert_eq!(all.ends_at(*id, &limits), None);
    }
    assert!(all.is_empty());
});
