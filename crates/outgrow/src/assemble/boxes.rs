//! This box among others: how it is called in registries, and by which clock a lease is judged.
//!
//! The name has a random part that the keeper holds: two outgrows on one machine, or on two machines
//! of the same name, must not write over each other, and every data process of one keeper must be
//! taken for the same.

use outgrow_core::hex;
use outgrow_core::random::system_bytes;
use outgrow_discover::BootTime;
use outgrow_fleet::client::Sender;
use outgrow_fleet::protocol::{DataMessage, Hello};
use rustix::time::{ClockId, clock_gettime};

use crate::config::Config;

/// Under which name the keeper holds the random part.
const KEY: &str = "box";
/// Longest part of a host's name that is used.
const NAME: usize = 64;
/// Random bytes of a name.
const RANDOM: usize = 4;

/// How this box is called in registries.
pub(super) async fn name(
    config: &Config,
    sender: &Sender,
    hello: &Hello,
) -> Result<String, String> {
    let kept = hello.kept.get(KEY).and_then(|value| value.as_str());
    let part = match kept {
        Some(part) => part.to_owned(),
        None => {
            let part = random_part();
            let keep = DataMessage::Keep {
                key: KEY.to_owned(),
                value: part.as_str().into(),
            };
            let told = sender.send(&keep).await;
            told.map_err(|error| error.to_string())?;
            part
        }
    };
    let name = match &config.process.name {
        Some(name) => name.as_str().to_owned(),
        None => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
            cleaned(&host.unwrap_or_default())
        }
    };
    Ok(format!("{name}-{part}"))
}

/// What nobody else has.
pub(super) fn random_part() -> String {
    let mut bytes = [0; RANDOM];
    system_bytes(&mut bytes);
    hex::encode(&bytes)
}

/// A host's name as it may stand in keys.
fn cleaned(host: &str) -> String {
    let is_right = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
    let name: String = host.chars().filter(is_right).take(NAME).collect();
    if name.is_empty() {
        return "box".to_owned();
    }
    name
}

/// The time since the machine was started, also while it slept.
pub(super) fn boot_clock() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    BootTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_stand_in_keys() {
        assert_eq!(cleaned("web-1.internal\n"), "web-1.internal");
        assert_eq!(cleaned("a/b c"), "abc");
        assert_eq!(cleaned("\n"), "box");
        assert_eq!(cleaned(&"x".repeat(300)).len(), NAME);
        assert_ne!(random_part(), random_part());
        assert_eq!(random_part().len(), 2 * RANDOM);
    }

    #[test]
    fn the_clock_goes_on() {
        let (one, two) = (boot_clock(), boot_clock());
        assert!(one > BootTime::default() && two >= one);
    }
}
