//! Boxes: network namespaces as machines, each with its own addresses and loopback, on one switch.
//!
//! The switch is a bridge in a namespace of its own; each box has one cable to it. A cable can be
//! pulled ([`Boxes::cut`]): from then on its box says nothing at all, not even that a port is
//! closed, as a machine that lost its power. What is to run in a box is started [`Boxes::inside`]
//! it. Nothing outside these namespaces is touched or reached; it needs root and `ip`
//! ([`BoxesError`]).
//!
//! Not here: what runs in them, delays and losses on the cables.

use std::{
    fmt,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    panic,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The switch's network: one for documents (RFC 5737), so that nothing is meant by it elsewhere.
const NETWORK: [u8; 3] = [192, 0, 2];
/// Most boxes on a switch.
pub const MOST: u8 = 16;

/// Makes names differ within a process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Why there are no boxes, with what they need. A test gives it back: shown as it is by the test
/// runner, it is a plain sentence.
#[derive(thiserror::Error)]
pub enum BoxesError {
    /// There is no `ip`.
    #[error("boxes (network namespaces) are made with `ip`, which cannot be run: {0}; {NEEDED}")]
    NoIp(io::Error),
    /// It may not make them.
    #[error("boxes (network namespaces) cannot be made by user {user}: {said}; {NEEDED}")]
    Refused {
        /// Who tried.
        user: u32,
        /// What was run, and what it said.
        said: String,
    },
}

/// What is to be done about it.
const NEEDED: &str = "install iproute2, and run this test as root, or in a container with the \
                      capabilities SYS_ADMIN and NET_ADMIN: it is not skipped without them";

impl fmt::Debug for BoxesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Some boxes on a switch; gone when it is dropped. What still runs in them must have been ended
/// before.
#[derive(Debug)]
pub struct Boxes {
    /// What the names of its namespaces begin with.
    mark: String,
    count: u8,
}

impl Boxes {
    /// So many boxes, numbered from 0.
    ///
    /// # Errors
    /// When they cannot be made: not root, or no `ip` (Debian's iproute2).
    pub fn new(count: u8) -> Result<Self, BoxesError> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("outgrow-{}-{number}", std::process::id());
        // Dropped, and so cleared away, if it fails half way.
        let boxes = Self {
            mark,
            count: count.min(MOST),
        };
        let switch = boxes.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        for index in 0..boxes.count {
            boxes.add(index)?;
        }
        Ok(boxes)
    }

    fn add(&self, index: u8) -> Result<(), BoxesError> {
        let (switch, name, cable) = (self.switch(), self.name(index), cable(index));
        ip(&["netns", "add", &name])?;
        let mut words = vec!["-n", &switch, "link", "add", &cable, "type", "veth"];
        words.extend(["peer", "name", "eth0", "netns", &name]);
        ip(&words)?;
        ip(&[
            "-n", &switch, "link", "set", &cable, "master", "switch", "up",
        ])?;
        let address = format!("{}/24", address(index));
        ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    /// A box's address.
    pub fn address(&self, index: u8) -> IpAddr {
        address(index)
    }

    /// An address on the switch that no box has: one that floats between them.
    pub fn floating(&self) -> IpAddr {
        let [a, b, c] = NETWORK;
        Ipv4Addr::new(a, b, c, 200).into()
    }

    /// Runs `work` on a thread in the box: what it connects to, listens on and starts is there, and
    /// so is what threads do that it starts.
    ///
    /// # Panics
    /// As `work` does, and when the box cannot be entered.
    pub fn inside<T: Send>(&self, index: u8, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.name(index));
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let space = File::open(&path).expect("the box is there");
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("a box can be entered");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        })
    }

    /// Pulls a box's cable.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn cut(&self, index: u8) -> Result<(), BoxesError> {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "set", &cable(index), "down"])
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn join(&self, index: u8) -> Result<(), BoxesError> {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "set", &cable(index), "up"])
    }

    /// Takes the floating address from a box that had it when it died.
    ///
    /// # Errors
    /// When `ip` cannot be run.
    pub fn forget_floating(&self, index: u8) -> io::Result<()> {
        let (name, address) = (self.name(index), format!("{}/32", self.floating()));
        let mut ip = Command::new("ip");
        let words = ["-n", &name, "address", "delete", &address, "dev", "eth0"];
        // It may not have had it.
        ip.args(words).output().map(drop)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.mark)
    }

    /// The name of a box's namespace, for `ip -n NAME`.
    pub fn name(&self, index: u8) -> String {
        format!("{}-box-{index}", self.mark)
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        for name in (0..self.count)
            .map(|index| self.name(index))
            .chain([self.switch()])
        {
            // Not there if making them failed.
            let _gone = ip(&["netns", "delete", &name]);
        }
    }
}

fn cable(index: u8) -> String {
    format!("cable-{index}")
}

fn address(index: u8) -> IpAddr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, index + 1).into()
}

fn ip(words: &[&str]) -> Result<(), BoxesError> {
    let mut ip = Command::new("ip");
    let output = ip.args(words).output().map_err(BoxesError::NoIp)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BoxesError::Refused {
        user: rustix::process::geteuid().as_raw(),
        said: format!("ip {}: {}", words.join(" "), said.trim()),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;
    use crate::wait;

    #[test]
    fn boxes_reach_each_other_until_a_cable_is_pulled() -> Result<(), BoxesError> {
        let boxes = Boxes::new(2)?;
        let _listener = boxes.inside(1, || TcpListener::bind((address(1), 80)).expect("a port"));
        let to = SocketAddr::new(boxes.address(1), 80);
        let limit = Duration::from_millis(300);
        let connect = || TcpStream::connect_timeout(&to, limit);
        let first = boxes.inside(0, connect);
        first.expect("reached");
        boxes.cut(1)?;
        let error = boxes.inside(0, connect).expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "silence: {error}");
        boxes.join(1)?;
        let again = || boxes.inside(0, connect).ok();
        wait::until("reached again", Duration::from_secs(20), again).expect("reached");
        Ok(())
    }

    #[test]
    fn what_is_needed_is_said_in_a_sentence() {
        let refused = BoxesError::Refused {
            user: 1_000,
            said: "ip netns add x: mkdir /run/netns failed: Permission denied".to_owned(),
        };
        let told = format!("{refused:?}");
        assert!(
            told.starts_with("boxes (network namespaces) cannot be made by user 1000: ip netns")
        );
        assert!(told.contains("Permission denied; install iproute2, and run this test as root"));
        let missing = BoxesError::NoIp(io::ErrorKind::NotFound.into());
        assert!(format!("{missing:?}").contains("`ip`, which cannot be run: "));
    }
}
