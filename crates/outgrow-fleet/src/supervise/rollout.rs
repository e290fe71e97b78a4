//! Whether a replacement goes well: when it is over, and when it is to be given up.
//!
//! Pure: what runs goes in, a verdict comes out. The steps are `reconcile`'s; what becomes of a
//! replacement that is given up is the caller's business.

/// An instance of a service during a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The hash that it was started with.
    pub hash: u64,
    /// It takes requests.
    pub serves: bool,
    /// It has done so for long enough to be relied upon.
    pub ready: bool,
    /// How often it ended or was restarted without ever having been ready.
    pub failures: u32,
    /// It only waits for its end.
    pub leaving: bool,
}

/// How a replacement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All instances are of the wanted hash, and there are as many as wanted, all ready.
    Done,
    /// It goes on.
    Rolling {
        /// New instances that are ready.
        ready: u32,
        /// Old ones that are still there.
        old: u32,
    },
    /// The new instances failed too often, and there are old ones that serve.
    Failed {
        /// How often.
        failures: u32,
        /// The hash to go back to: that of most of the old instances that serve.
        back_to: u64,
    },
    /// As above, but there is nothing to go back to.
    Stuck {
        /// How often.
        failures: u32,
    },
}

/// Judges the replacement of one service's instances by those of hash `wanted`. `tries` failures
/// are one too many; 0 is never.
pub fn judge(wanted: u64, count: u32, tries: u32, instances: &[Fact]) -> Standing {
    let staying = || instances.iter().filter(|one| !one.leaving);
    let new = || staying().filter(|one| one.hash == wanted);
    let old = staying().filter(|one| one.hash != wanted).count() as u32;
    let ready = new().filter(|one| one.ready).count() as u32;
    let failures: u32 = new().map(|one| one.failures).sum();
    if tries > 0 && failures >= tries {
        return match best_old(wanted, instances) {
            Some(back_to) => Standing::Failed { failures, back_to },
            None => Standing::Stuck { failures },
        };
    }
    if old == 0 && ready >= count {
        return Standing::Done;
    }
    Standing::Rolling { ready, old }
}

/// The hash of most of the old instances that serve.
fn best_old(wanted: u64, instances: &[Fact]) -> Option<u64> {
    let old = || {
        let serve = |one: &&Fact| one.hash != wanted && one.serves && !one.leaving;
        instances.iter().filter(serve).map(|one| one.hash)
    };
    old().max_by_key(|hash| (old().filter(|other| other == hash).count(), *hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_its_standing() {
        // (hash, ready, failures, leaving)
        let check = |facts: &[(u64, bool, u32, bool)], expected: Standing| {
            let facts: Vec<Fact> = facts
                .iter()
                .map(|&(hash, ready, failures, leaving)| Fact {
                    hash,
                    serves: ready,
                    ready,
                    failures,
                    leaving,
                })
                .collect();
            assert_eq!(judge(2, 2, 3, &facts), expected, "{facts:?}");
        };
        check(&[], Standing::Rolling { ready: 0, old: 0 });
        check(&[(2, true, 0, false), (2, true, 0, false)], Standing::Done);
        check(
            &[(2, true, 0, false), (2, true, 0, false), (1, true, 0, true)],
            Standing::Done,
        );
        check(
            &[
                (1, true, 0, false),
                (1, true, 0, false),
                (2, false, 2, false),
            ],
            Standing::Rolling { ready: 0, old: 2 },
        );
        let failed = Standing::Failed {
            failures: 3,
            back_to: 1,
        };
        check(
            &[
                (1, true, 0, false),
                (1, true, 0, false),
                (2, false, 3, false),
            ],
            failed,
        );
        check(
            &[
                (1, true, 9, false),
                (7, false, 0, false),
                (7, false, 0, false),
                (2, false, 2, false),
                (2, false, 1, false),
            ],
            failed,
        );
        check(
            &[
                (1, false, 0, false),
                (1, true, 0, true),
                (2, false, 4, false),
            ],
            Standing::Stuck { failures: 4 },
        );
        assert_eq!(judge(2, 1, 0, &[]), Standing::Rolling { ready: 0, old: 0 });
        let forever = Fact {
            hash: 2,
            serves: false,
            ready: false,
            failures: 99,
            leaving: false,
        };
        assert_eq!(
            judge(2, 1, 0, &[forever]),
            Standing::Rolling { ready: 0, old: 0 }
        );
    }
}
