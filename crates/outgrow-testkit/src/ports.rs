//! Free ports for programs that cannot be told to take port 0.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Where the system takes no ports from by itself (it begins at 32768), neither for port 0 nor for
/// outgoing connections: so what is handed out here is nobody else's by chance.
const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// So many different addresses of loopback on which nobody listens now. All tests of a user, in
/// whatever processes, take them in turn, so that one that is handed out stays its test's own for
/// thousands of turns.
///
/// # Errors
/// When there are no free ports, or the file that counts the turns cannot be written.
pub fn free(count: usize) -> io::Result<Vec<SocketAddr>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut turns = turns()?;
    turns.lock()?;
    let mut text = String::new();
    turns.read_to_string(&mut text)?;
    let mut last: u16 = text.trim().parse().unwrap_or(FIRST);
    let mut found = Vec::with_capacity(count);
    for _ in FIRST..LAST {
        last = if (FIRST..LAST).contains(&last) {
            last + 1
        } else {
            FIRST
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, last));
        if TcpListener::bind(address).is_ok() {
            found.push(address);
        }
        if found.len() == count {
            turns.set_len(0)?;
            turns.rewind()?;
            write!(turns, "{last}")?;
            return Ok(found);
        }
    }
    Err(io::Error::other(format!(
        "there are no {count} free ports from {FIRST} to {LAST}"
    )))
}

/// The file that counts; unlocked when it is dropped.
fn turns() -> io::Result<File> {
    let user = rustix::process::getuid().as_raw();
    let path = env::temp_dir().join(format!("outgrow-testkit-ports-{user}"));
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_another_has() {
        let take = || std::thread::spawn(|| free(20).expect("ports"));
        let threads: Vec<_> = (0..8).map(|_| take()).collect();
        let mut all: Vec<SocketAddr> = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("no panic"));
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 160);
        assert!(all.iter().all(|at| (FIRST..=LAST).contains(&at.port())));
    }

    #[test]
    fn one_in_use_is_passed_over() {
        let next = free(1).expect("a port")[0].port() + 1;
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        let found = free(3).expect("ports");
        assert!(found.iter().all(|at| at.port() != next), "{found:?}");
    }
}
