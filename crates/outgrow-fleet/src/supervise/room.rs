//! How many more instances of a service the machine has room for, by what its instances were
//! measured to use. Pure: the figures are arguments, and they are shown with the answer.
//!
//! It is a statement about the load that there is: one more instance takes a share of it, so the
//! others would use less. What is not measured is not guessed.

/// An instance that used less than this, in thousandths of a core, says nothing about processors.
const LEAST_CPU_THOUSANDTHS: u64 = 10;

/// What is left of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Processor time that nobody uses, in thousandths of a core.
    pub cpu_thousandths: Option<u64>,
    /// Memory that can be had, in bytes.
    pub memory_bytes: Option<u64>,
}

/// What the instance of the service that uses the most was measured to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerInstance {
    /// Over the last seconds, in thousandths of a core.
    pub cpu_thousandths: Option<u64>,
    /// Resident bytes.
    pub memory_bytes: Option<u64>,
}

impl PerInstance {
    /// The larger of each figure.
    pub fn most(self, other: Self) -> Self {
        let larger = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Self {
            cpu_thousandths: larger(self.cpu_thousandths, other.cpu_thousandths),
            memory_bytes: larger(self.memory_bytes, other.memory_bytes),
        }
    }
}

/// How many more would fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// By the scarcer of the two; `None` when it cannot be told.
    pub more: Option<u64>,
    /// By processor time.
    pub by_cpu: Option<u64>,
    /// By memory.
    pub by_memory: Option<u64>,
    /// Why something cannot be told.
    pub reasons: Vec<&'static str>,
}

/// Compares what is left with what an instance uses.
pub fn room(rest: Rest, each: PerInstance) -> Room {
    let mut reasons = Vec::new();
    let by_cpu = match (rest.cpu_thousandths, each.cpu_thousandths) {
        (None, _) => {
            reasons.push("the machine's processors are not measured yet");
            None
        }
        (_, None) => {
            reasons.push("no instance's processor time is measured yet");
            None
        }
        (Some(_), Some(used)) if used < LEAST_CPU_THOUSANDTHS => {
            reasons.push("the instances are idle: they use less than 1 % of a core each");
            None
        }
        (Some(left), Some(used)) => Some(left / used),
    };
    let by_memory = match (rest.memory_bytes, each.memory_bytes) {
        (None, _) => {
            reasons.push("the machine's memory is not measured");
            None
        }
        (_, None | Some(0)) => {
            reasons.push("no instance's memory is measured yet");
            None
        }
        (Some(left), Some(used)) => Some(left / used),
    };
    // With one of the two the answer would be a number that may be far too high.
    let more = by_cpu.zip(by_memory).map(|(cpu, memory)| cpu.min(memory));
    // But none is none.
    let none = (by_cpu == Some(0) || by_memory == Some(0)).then_some(0);
    Room {
        more: more.or(none),
        by_cpu,
        by_memory,
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_one_decides_and_what_is_not_measured_is_not_guessed() {
        type Numbers = (Option<u64>, Option<u64>);
        let check = |rest: Numbers, each: Numbers, expected: [Option<u64>; 3], reasons: usize| {
            let rest = Rest {
                cpu_thousandths: rest.0,
                memory_bytes: rest.1,
            };
            let each = PerInstance {
                cpu_thousandths: each.0,
                memory_bytes: each.1,
            };
            let room = room(rest, each);
            assert_eq!(
                [room.more, room.by_cpu, room.by_memory],
                expected,
                "{rest:?} {each:?}"
            );
            assert_eq!(room.reasons.len(), reasons, "{:?}", room.reasons);
        };
        let all = (Some(3_000), Some(1_000));
        check(all, (Some(500), Some(300)), [Some(3), Some(6), Some(3)], 0);
        check(
            all,
            (Some(2_000), Some(1)),
            [Some(1), Some(1), Some(1_000)],
            0,
        );
        // Idle instances say nothing about processors.
        check(all, (Some(9), Some(100)), [None, None, Some(10)], 1);
        check(all, (None, Some(100)), [None, None, Some(10)], 1);
        check(
            (None, Some(1_000)),
            (Some(50), Some(100)),
            [None, None, Some(10)],
            1,
        );
        check((None, None), (None, None), [None, None, None], 2);
        check(all, (Some(500), Some(0)), [None, Some(6), None], 1);
        // No room for memory is no room, whatever the processors do.
        check(
            (Some(900), Some(10)),
            (None, Some(100)),
            [Some(0), None, Some(0)],
            1,
        );
    }

    #[test]
    fn the_largest_instance_counts() {
        let one = PerInstance {
            cpu_thousandths: Some(5),
            memory_bytes: None,
        };
        let other = PerInstance {
            cpu_thousandths: Some(3),
            memory_bytes: Some(9),
        };
        let most = one.most(other);
        assert_eq!(
            (most.cpu_thousandths, most.memory_bytes),
            (Some(5), Some(9))
        );
    }
}
