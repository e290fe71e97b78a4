//! What systemd, or whatever else has set `NOTIFY_SOCKET`, is told of the
//! keeper (sd_notify(3)): that it serves, reloads, stops, lives. The protocol
//! is a datagram of lines to a Unix socket; nothing of systemd is linked.
//!
//! Nothing here can stop the keeper: what the socket has no room for is tried
//! again at the next turn. Which moment says what is in the keeper's own files.
//! `MAINPID` is never told: over an upgrade the pid stays.

use std::collections::VecDeque;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::moment::Moment;

/// What surrounds the keeper alone: no child inherits it.
pub(super) const VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];
/// When what was not taken is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// How a line for people begins.
const STATUS: &str = "STATUS=";
/// What may wait; the oldest gives way.
const WAITING_LIMIT: usize = 16;

/// The way to who has started the keeper.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    way: Option<(UnixDatagram, SocketAddr)>,
    waiting: VecDeque<String>,
    watchdog: Option<Duration>,
    next_sign: Option<Moment>,
    status: String,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let address = variable("NOTIFY_SOCKET").and_then(|name| address(&name));
        let way = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let own = std::process::id().to_string();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            &own,
        );
        Self {
            watchdog: watchdog.filter(|_| way.is_some()),
            way,
            ..Self::default()
        }
    }

    /// Whether anybody is told anything.
    pub(super) fn is_on(&self) -> bool {
        self.way.is_some()
    }

    /// It serves; also the end of a reload.
    pub(super) fn ready(&mut self) {
        self.say("READY=1".to_owned());
    }

    /// The configuration is read anew; [`Self::ready`] follows.
    pub(super) fn reloading(&mut self) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = time
            .tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(time.tv_nsec / 1000);
        self.say(format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// It ends, which may take so long.
    pub(super) fn stopping(&mut self, limit: Duration) {
        self.say("STOPPING=1".to_owned());
        self.more_time(limit);
    }

    /// What is under way may take so long from now.
    pub(super) fn more_time(&mut self, limit: Duration) {
        self.say(format!("EXTEND_TIMEOUT_USEC={}", limit.as_micros()));
    }

    /// One line for people; said when it changes.
    pub(super) fn status(&mut self, text: &str) {
        if self.is_on() && self.status != text {
            // A line is what it has to be.
            let line = text.replace(['\n', '\r'], " ");
            text.clone_into(&mut self.status);
            self.say(format!("{STATUS}{line}"));
        }
    }

    fn say(&mut self, text: String) {
        if !self.is_on() {
            return;
        }
        // An older line for people is of no interest.
        if text.starts_with(STATUS) {
            self.waiting.retain(|one| !one.starts_with(STATUS));
        }
        if self.waiting.len() >= WAITING_LIMIT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(text);
    }

    /// Sends what waits, and a sign of life when one is due.
    pub(super) fn advance(&mut self, now: Moment) {
        let Some((socket, address)) = &self.way else {
            return;
        };
        if let Some(every) = self.watchdog
            && self.next_sign.is_none_or(|next| next <= now)
        {
            self.next_sign = Some(now.after(every));
            // The next one comes soon enough where this one finds no room.
            let _ = socket.send_to_addr(b"WATCHDOG=1", address);
        }
        while let Some(text) = self.waiting.front() {
            match socket.send_to_addr(text.as_bytes(), address) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody is there: nothing that we could tell it matters.
                Ok(_) | Err(_) => {
                    self.waiting.pop_front();
                }
            }
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        let again = (!self.waiting.is_empty()).then(|| now.after(AGAIN));
        let sign = self.watchdog.and(self.next_sign);
        again.into_iter().chain(sign).min()
    }
}

/// A path, or with `@` the name of an abstract socket.
fn address(name: &str) -> Option<SocketAddr> {
    match name.as_bytes().first()? {
        b'/' => SocketAddr::from_pathname(name).ok(),
        b'@' => SocketAddr::from_abstract_name(&name.as_bytes()[1..]).ok(),
        // vsock: and what there may be else.
        _ => None,
    }
}

/// How often to show a sign of life: twice as often as it is wanted.
fn watchdog(limit: Option<&str>, whose: Option<&str>, own: &str) -> Option<Duration> {
    let microseconds: u64 = limit?.parse().ok().filter(|limit| *limit > 0)?;
    whose
        .is_none_or(|pid| pid == own)
        .then(|| Duration::from_micros(microseconds) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(name: &str) -> (UnixDatagram, Notifier) {
        let unique = format!("outgrow-notify-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(unique.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier {
            way: Some((socket, super::address(&format!("@{unique}")).unwrap())),
            ..Notifier::default()
        };
        (receiver, notifier)
    }

    fn received(receiver: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        while let Ok(length) = receiver.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    #[test]
    fn each_word_is_a_datagram_and_a_status_only_when_it_changes() {
        let (receiver, mut notifier) = notifier("words");
        let now = Moment::from_milliseconds(0);
        notifier.ready();
        notifier.status("one\nline");
        notifier.status("one\nline");
        notifier.stopping(Duration::from_secs(2));
        notifier.advance(now);
        assert_eq!(
            received(&receiver),
            [
                "READY=1",
                "STATUS=one line",
                "STOPPING=1",
                "EXTEND_TIMEOUT_USEC=2000000"
            ]
        );
        assert_eq!(notifier.deadline(now), None);
        notifier.reloading();
        notifier.advance(now);
        let said = received(&receiver).join("");
        assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    }

    #[test]
    fn what_finds_no_room_waits_and_is_bounded() {
        let (receiver, mut notifier) = notifier("room");
        let now = Moment::from_milliseconds(0);
        // The kernel's queue of datagrams (net.unix.max_dgram_qlen) is full.
        for _ in 0..10_000 {
            notifier.say("STATUS=filling".to_owned());
            notifier.advance(now);
        }
        assert_eq!(notifier.waiting, ["STATUS=filling"]);
        for _ in 0..100 {
            notifier.more_time(Duration::from_secs(1));
        }
        assert_eq!(notifier.waiting.len(), WAITING_LIMIT);
        notifier.ready();
        notifier.status("the last");
        notifier.advance(now);
        let mut all = received(&receiver);
        assert!(!all.contains(&"READY=1".to_owned()));
        while notifier.deadline(now).is_some() {
            notifier.advance(now);
            all.extend(received(&receiver));
        }
        let end = &all[all.len() - 2..];
        assert_eq!(end, ["READY=1", "STATUS=the last"]);
    }

    #[test]
    fn signs_of_life_come_in_time() {
        let (receiver, mut notifier) = notifier("life");
        notifier.watchdog = watchdog(Some("2000000"), None, "1");
        let at = Moment::from_milliseconds;
        notifier.advance(at(0));
        notifier.advance(at(999));
        assert_eq!(received(&receiver), ["WATCHDOG=1"]);
        assert_eq!(notifier.deadline(at(999)), Some(at(1000)));
        notifier.advance(at(1000));
        assert_eq!(received(&receiver), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_watchdog_of_somebody_else_is_not_ours() {
        let check = |limit, whose, expected| assert_eq!(watchdog(limit, whose, "7"), expected);
        let second = Some(Duration::from_secs(1));
        check(Some("2000000"), Some("7"), second);
        check(Some("2000000"), Some("8"), None);
        check(Some("0"), None, None);
        check(Some("soon"), None, None);
        check(None, Some("7"), None);
    }

    #[test]
    fn only_paths_and_abstract_names_are_addresses() {
        assert!(address("/run/systemd/notify").is_some());
        assert!(address("@abstract").is_some());
        assert!(address("vsock:2:1234").is_none());
        assert!(address("").is_none());
    }
}
