//! What clients are told of HTTP/3 over TCP (`Alt-Svc`, RFC 7838), and that they are told when it was
//! switched off: who remembers it would go on trying, and wait each time until it is clear that nobody
//! answers.
//!
//! A client remembers for `alt_svc_max_age`. So a listener that spoke HTTP/3 and does not any more says
//! `clear` for as long as that from then on. The keeper holds until when, so that the next process says
//! it as well; it is said until the first reload after that time, since to say it longer does no harm.
//! Connections that have an earlier plan say the same (`outgrow_edge::AltSvc`).

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use outgrow_core::settings::Address;
use outgrow_edge::settings::ListenerSettings;
use outgrow_fleet::protocol::{DataMessage, Hello};
use serde::{Deserialize, Serialize};

/// Under which name the keeper holds it.
const KEY: &str = "alt_svc";
/// Section 3: the client is to forget what it was told.
pub(super) const CLEAR: &str = "clear";

/// Which clients remember what: by the listener's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    max_age_seconds: u64,
    /// Until when clients remember that it was there, in seconds since 1970; none while it is there.
    until: Option<u64>,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Remembered {
    /// With what the keeper holds.
    pub(super) fn from_keeper(hello: &Hello) -> Self {
        let kept = hello.kept.get(KEY).cloned();
        let kept = kept.and_then(|value| serde_json::from_value(value).ok());
        kept.unwrap_or_default()
    }

    /// What clients of a listener are told, if they are told anything.
    pub(super) fn told(&self, settings: &ListenerSettings, now: u64) -> Option<Box<str>> {
        match settings.http3 {
            Some(_) => offer(settings),
            None => self.told_without(settings, now),
        }
    }

    /// The same where HTTP/3 is not there, whatever the settings say.
    pub(super) fn told_without(&self, settings: &ListenerSettings, now: u64) -> Option<Box<str>> {
        // Over a connection without TLS it would be of another origin.
        settings.tls.as_ref()?;
        let entry = self.0.get(&settings.address.to_string())?;
        let is_remembered = entry.until.is_none_or(|until| now < until);
        is_remembered.then(|| CLEAR.into())
    }

    /// These listeners are in force from now on; what the keeper is to hold, if that is new.
    pub(super) fn apply<'s>(
        &mut self,
        listeners: impl Iterator<Item = &'s ListenerSettings>,
        now: u64,
    ) -> Option<DataMessage> {
        let before = self.clone();
        let mut there = BTreeMap::new();
        for settings in listeners {
            if let Some(http3) = &settings.http3 {
                let max_age = http3.alt_svc_max_age.as_secs();
                there.insert(settings.address.to_string(), max_age);
            }
        }
        for (address, entry) in &mut self.0 {
            match there.remove(address) {
                Some(max_age_seconds) => {
                    // Who came before a change to less remembers for longer.
                    let longest = entry.max_age_seconds.max(max_age_seconds);
                    *entry = Entry::there(longest);
                }
                None if entry.until.is_none() => {
                    entry.until = Some(now.saturating_add(entry.max_age_seconds));
                }
                None => {}
            }
        }
        self.0
            .retain(|_, entry| entry.until.is_none_or(|until| now < until));
        let told = there.into_iter().filter(|(_, max_age)| *max_age > 0);
        let new = told.map(|(address, max_age)| (address, Entry::there(max_age)));
        self.0.extend(new);
        (*self != before).then(|| DataMessage::Keep {
            key: KEY.to_owned(),
            // A map with texts as keys: always JSON.
            value: serde_json::to_value(&*self).unwrap_or_default(),
        })
    }
}

impl Entry {
    fn there(max_age_seconds: u64) -> Self {
        Self {
            max_age_seconds,
            until: None,
        }
    }
}

/// That HTTP/3 is here, if clients are told.
fn offer(settings: &ListenerSettings) -> Option<Box<str>> {
    let http3 = settings.http3.as_ref()?;
    let seconds = http3.alt_svc_max_age.as_secs();
    let Address::Tcp { port, .. } = &settings.address else {
        return None;
    };
    let port = http3.alt_svc_port.unwrap_or(*port);
    (seconds > 0).then(|| format!("h3=\":{port}\"; ma={seconds}").into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outgrow_edge::settings::{Http3Settings, ListenerTls};

    use super::*;

    fn listener(max_age: Option<u64>) -> ListenerSettings {
        ListenerSettings {
            tls: Some(ListenerTls::default()),
            http3: max_age.map(|seconds| Http3Settings {
                alt_svc_max_age: Duration::from_secs(seconds),
                ..Http3Settings::default()
            }),
            ..ListenerSettings::default()
        }
    }

    /// What is told with a listener in force, and whether the keeper hears something new.
    fn step(remembered: &mut Remembered, listener: &ListenerSettings, now: u64) -> (String, bool) {
        let told = remembered.told(listener, now).unwrap_or_default();
        let new = remembered.apply([listener].into_iter(), now);
        if let Some(DataMessage::Keep { key, value }) = &new {
            // The next process knows the same.
            let kept = serde_json::from_value::<Remembered>(value.clone());
            assert_eq!((key.as_str(), &kept.expect("read")), (KEY, &*remembered));
        }
        (told.into(), new.is_some())
    }

    #[test]
    fn who_remembers_is_told_for_as_long() {
        let mut remembered = Remembered::default();
        let (there, gone) = (listener(Some(3_600)), listener(None));
        let told = |text: &str, is_new| (text.to_owned(), is_new);
        assert_eq!(
            step(&mut remembered, &gone, 0),
            told("", false),
            "it never was"
        );
        let Address::Tcp { port, .. } = &there.address else {
            panic!("{:?}", there.address);
        };
        let offer = format!("h3=\":{port}\"; ma=3600");
        assert_eq!(step(&mut remembered, &there, 0), told(&offer, true));
        assert_eq!(step(&mut remembered, &there, 50), told(&offer, false));
        let without = remembered.told_without(&there, 50);
        assert_eq!(without.as_deref(), Some("clear"), "it failed");
        assert_eq!(step(&mut remembered, &gone, 100), told("clear", true));
        assert_eq!(step(&mut remembered, &gone, 3_699), told("clear", false));
        // It comes again meanwhile, with less.
        let less = listener(Some(60));
        let offer = format!("h3=\":{port}\"; ma=60");
        assert_eq!(step(&mut remembered, &less, 3_699), told(&offer, true));
        assert_eq!(step(&mut remembered, &gone, 3_700), told("clear", true));
        assert_eq!(step(&mut remembered, &gone, 7_299), told("clear", false));
        assert_eq!(step(&mut remembered, &gone, 7_300), told("", true));
        assert_eq!(remembered, Remembered::default());
    }

    #[test]
    fn where_nobody_was_told_nothing_is_cleared() {
        let mut remembered = Remembered::default();
        let (silent, gone) = (listener(Some(0)), listener(None));
        for one in [&silent, &gone] {
            assert_eq!(step(&mut remembered, one, 0), (String::new(), false));
        }
        // Without TLS it is another origin's.
        step(&mut remembered, &listener(Some(60)), 0);
        let plain = ListenerSettings { tls: None, ..gone };
        assert_eq!(remembered.told(&plain, 1), None);
    }
}
