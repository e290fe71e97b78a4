//! Tells that few descriptors are left, so that whoever wonders why new connections hang finds it.
//! That they wait is the listeners' (`outgrow_net::listen`).

use std::time::Duration;

use outgrow_core::Ticks;
use outgrow_net::listen::Room;

use crate::assemble::log;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two lines.
const AGAIN: Duration = Duration::from_secs(60);

/// When it was last looked and told.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    looked: Option<Ticks>,
    told: Option<Ticks>,
}

impl Descriptors {
    /// Tells it, when it is time to.
    pub(super) fn tell(&mut self, now: Ticks) {
        if let Some(line) = self.step(now, || Room::look(&std::io::stderr())) {
            log::warn(&line);
        }
    }

    /// What is to be told now, at most once a minute.
    fn step(&mut self, now: Ticks, look: impl FnOnce() -> Room) -> Option<String> {
        let is_due = |last: Option<Ticks>, every| last.is_none_or(|last| now.since(last) >= every);
        if !is_due(self.looked, LOOK) {
            return None;
        }
        self.looked = Some(now);
        let room = look();
        if room.left_to_clients() > 0 || !is_due(self.told, AGAIN) {
            return None;
        }
        self.told = Some(now);
        Some(format!(
            "{} of {} files are open, and the rest is not for clients: new connections wait in the \
             kernel until others end; raise the limit (ulimit -n, LimitNOFILE=)",
            room.next, room.limit
        ))
    }
}

/// Tells at the start that clients have few.
pub(super) fn tell_at_the_start() {
    if let Some(line) = at_the_start(Room::look(&std::io::stderr())) {
        log::warn(&line);
    }
}

/// What is to be told at the start, when all listeners listen and nobody has come yet.
fn at_the_start(room: Room) -> Option<String> {
    (room.left_to_clients() < room.reserve).then(|| {
        format!(
            "{} of {} files are open before any client has come, and {} are not for clients, which \
             leaves them {}: raise the limit (ulimit -n, LimitNOFILE=), or have fewer workers or \
             listeners",
            room.next,
            room.limit,
            room.reserve,
            room.left_to_clients()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(next: u64) -> Room {
        Room {
            limit: 1024,
            reserve: 128,
            next,
        }
    }

    #[test]
    fn it_is_told_once_a_minute_while_few_are_left() {
        let mut descriptors = Descriptors::default();
        let mut told = Vec::new();
        for half_second in 0..260 {
            let now = Ticks(500_000_000 * half_second);
            // From the tenth second on.
            let next = if half_second < 20 { 895 } else { 896 };
            if let Some(line) = descriptors.step(now, || room(next)) {
                assert!(line.starts_with("896 of 1024 files"), "{line}");
                told.push(half_second / 2);
            }
        }
        assert_eq!(told, [10, 70]);
    }

    #[test]
    fn a_start_that_leaves_clients_little_is_told() {
        assert_eq!(at_the_start(room(768)), None);
        let told = at_the_start(room(928)).expect("none are left");
        assert!(told.contains("leaves them 0"), "{told}");
    }
}
