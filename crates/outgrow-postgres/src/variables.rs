//! Settings of a session that the server reports (ParameterStatus): each client has its values,
//! each server connection those that were set on it last, and a client gets a connection only with
//! its own values on it.

use std::sync::Arc;

use crate::wire::write;

/// The settings that are followed: reported by every version, and not fixed for a connection.
pub const USUAL: [&str; 6] = [
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
    "IntervalStyle",
];

/// Values of reported settings that are not followed are kept up to so many; Postgres has 15.
const REPORTED_LIMIT: usize = 64;

/// The names of the settings that are followed, for all connections of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed(Arc<[Box<str>]>);

impl Followed {
    /// The usual ones and `more`.
    pub fn new(more: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut names: Vec<Box<str>> = USUAL.map(Box::from).to_vec();
        for name in more {
            let name = name.as_ref();
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.into());
            }
        }
        Self(names.into())
    }

    /// The place of a name; its case does not matter.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Some of the settings that are followed, by their places. Those beyond the 63rd are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places(u64);

impl Places {
    /// Every setting.
    pub const ALL: Self = Self(u64::MAX);

    /// Takes in one.
    pub fn insert(&mut self, place: usize) {
        self.0 |= 1 << place.min(63);
    }

    /// Whether it is one of them.
    pub fn contains(self, place: usize) -> bool {
        self.0 >> place.min(63) & 1 == 1
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Default for Followed {
    fn default() -> Self {
        Self::new(std::iter::empty::<&str>())
    }
}

/// The values of the followed settings of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    followed: Followed,
    values: Vec<Option<Arc<str>>>,
}

impl Variables {
    /// Without values.
    pub fn new(followed: &Followed) -> Self {
        Self {
            followed: followed.clone(),
            values: vec![None; followed.0.len()],
        }
    }

    /// The value of the setting called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values[self.followed.place(name)?].as_deref()
    }

    /// Takes note of a value. False when the name is not followed.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(place) = self.followed.place(name) else {
            return false;
        };
        if self.values[place].as_deref() != Some(value) {
            self.values[place] = Some(value.into());
        }
        true
    }

    /// Whether every setting has a value.
    pub fn are_complete(&self) -> bool {
        self.values.iter().all(Option::is_some)
    }

    /// Takes the values of `defaults` where there are none.
    pub fn fill(&mut self, defaults: &Self) {
        for (own, default) in self.values.iter_mut().zip(&defaults.values) {
            if own.is_none() {
                own.clone_from(default);
            }
        }
    }

    /// Takes the values of `start` of the settings in `places`, where it has some; `tell` is told of each
    /// that is another one by that.
    pub fn start_over(&mut self, start: &Self, places: Places, mut tell: impl FnMut(&str, &str)) {
        let names = self.followed.0.iter();
        let pairs = self.values.iter_mut().zip(&start.values).zip(names);
        for (place, ((own, first), name)) in pairs.enumerate() {
            if let Some(value) = first
                && places.contains(place)
                && own.as_ref() != Some(value)
            {
                tell(name, value);
                *own = Some(Arc::clone(value));
            }
        }
    }

    /// All that have a value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.followed.0.iter().zip(&self.values);
        pairs.filter_map(|(name, value)| Some((&**name, value.as_deref()?)))
    }

    /// Whether a connection with the values of `server` needs nothing to serve this session.
    #[inline]
    pub fn are_on(&self, server: &Self) -> bool {
        let mut pairs = self.values.iter().zip(&server.values);
        pairs.all(|(own, other)| match (own, other) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other) || own == other,
            // What a server does not report cannot be set there, or was never said.
            _ => true,
        })
    }

    /// Writes the statement that brings a connection from the values of `server` to these; false
    /// when there is none to be written.
    pub fn write_difference(&self, server: &Self, sql: &mut Vec<u8>) -> bool {
        let before = sql.len();
        for (place, (own, other)) in self.values.iter().zip(&server.values).enumerate() {
            if let (Some(own), Some(other)) = (own, other)
                && own != other
            {
                sql.extend_from_slice(b"SET ");
                sql.extend_from_slice(self.followed.0[place].as_bytes());
                sql.extend_from_slice(b"=");
                write_literal(own, sql);
                sql.extend_from_slice(b";");
            }
        }
        sql.len() > before
    }

    /// Takes over how `server` writes the values that were just set on it; `note` is told of each
    /// that is written in another way.
    pub fn adopt(&mut self, server: &Self, mut note: impl FnMut(&str, &str, &str)) {
        let names = self.followed.0.iter();
        for ((own, other), name) in self.values.iter_mut().zip(&server.values).zip(names) {
            if let (Some(old), Some(new)) = (&own, other)
                && old != new
            {
                note(name, old, new);
                *own = Some(Arc::clone(new));
            }
        }
    }

    /// Takes over the values of `server` where they are equal, so that comparing is cheap.
    pub fn share(&mut self, server: &Self) {
        for (own, other) in self.values.iter_mut().zip(&server.values) {
            if own == other {
                own.clone_from(other);
            }
        }
    }
}

/// A text as a literal of SQL, whatever `standard_conforming_strings` is.
pub fn write_literal(text: &str, sql: &mut Vec<u8>) {
    if text.contains('\\') {
        sql.push(b'E');
    }
    sql.push(b'\'');
    for &byte in text.as_bytes() {
        if byte == b'\'' || byte == b'\\' {
            sql.push(byte);
        }
        sql.push(byte);
    }
    sql.push(b'\'');
}

/// What a server reported at its login, the settings that are followed and others: what clients
/// are told at theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    reported: Vec<(Box<str>, Box<str>)>,
    /// The values of the followed ones.
    pub variables: Variables,
}

impl Welcome {
    /// Without any.
    pub fn new(followed: &Followed) -> Self {
        Self {
            reported: Vec::new(),
            variables: Variables::new(followed),
        }
    }

    /// Takes note of a ParameterStatus.
    pub fn note(&mut self, name: &str, value: &str) {
        if self.variables.set(name, value) {
            return;
        }
        let place = self.reported.iter().position(|(known, _)| **known == *name);
        match place {
            Some(place) => self.reported[place].1 = value.into(),
            None if self.reported.len() < REPORTED_LIMIT => {
                self.reported.push((name.into(), value.into()));
            }
            None => {}
        }
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        let other = self.reported.iter().find(|(known, _)| **known == *name);
        match other {
            Some((_, value)) => Some(value),
            None => self.variables.get(name),
        }
    }

    /// Writes ParameterStatus for each, the followed ones with the values of `variables`.
    pub fn write(&self, variables: &Variables, out: &mut Vec<u8>) {
        for (name, value) in &self.reported {
            write::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
        for (name, value) in variables.iter() {
            write::parameter_status(out, name.as_bytes(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reset_is_as_at_the_start() {
        let followed = Followed::default();
        let [mut client, mut start] = [(); 2].map(|()| Variables::new(&followed));
        start.set("DateStyle", "SQL");
        start.set("application_name", "shop");
        for (name, value) in [("DateStyle", "ISO"), ("TimeZone", "UTC")] {
            client.set(name, value);
        }
        client.set("application_name", "shop");
        let mut check = |places: Places, expected: &[&str]| {
            let mut told = Vec::new();
            client.start_over(&start, places, |name, value| {
                told.push(format!("{name}={value}"));
            });
            assert_eq!(told, expected);
        };
        let mut zone = Places::default();
        assert!(zone.is_empty());
        zone.insert(followed.place("timezone").expect("it is followed"));
        check(zone, &[]);
        check(Places::ALL, &["DateStyle=SQL"]);
        check(Places::ALL, &[]);
        assert_eq!(
            client.get("TimeZone"),
            Some("UTC"),
            "the start said nothing of it"
        );
        zone.insert(200);
        assert!(zone.contains(63) && zone.contains(64) && !zone.contains(62));
    }

    #[test]
    fn values_are_taken_over_as_servers_write_them() {
        let followed = Followed::default();
        let [mut client, mut server] = [(); 2].map(|()| Variables::new(&followed));
        client.set("DateStyle", "ISO");
        client.set("TimeZone", "UTC");
        server.set("DateStyle", "ISO, MDY");
        server.set("application_name", "other");
        let mut told = Vec::new();
        client.adopt(&server, |name, old, new| {
            told.push(format!("{name}: {old} -> {new}"));
        });
        assert_eq!(told, ["DateStyle: ISO -> ISO, MDY"]);
        assert_eq!(client.get("DateStyle"), Some("ISO, MDY"));
        assert_eq!(client.get("TimeZone"), Some("UTC"));
        assert_eq!(client.get("application_name"), None);
    }

    #[test]
    fn differences_are_written() {
        let followed = Followed::new(["search_path", "timezone"]);
        let mut client = Variables::new(&followed);
        let mut server = Variables::new(&followed);
        let check = |client: &Variables, server: &Variables, expected: &str| {
            let mut sql = Vec::new();
            let differs = client.write_difference(server, &mut sql);
            assert_eq!(String::from_utf8_lossy(&sql), expected);
            assert_eq!(differs, !expected.is_empty());
            assert_eq!(client.are_on(server), expected.is_empty());
        };
        check(&client, &server, "");
        assert!(server.set("timezone", "UTC") && server.set("application_name", ""));
        check(&client, &server, "");
        assert!(client.set("TIMEZONE", "Europe/Berlin"));
        check(&client, &server, "SET TimeZone='Europe/Berlin';");
        client.set("application_name", r"it's \ odd");
        check(
            &client,
            &server,
            r"SET TimeZone='Europe/Berlin';SET application_name=E'it''s \\ odd';",
        );
        server = client.clone();
        check(&client, &server, "");
        assert!(!client.set("work_mem", "1GB"));
        client.set("search_path", "a, b");
        check(&client, &server, "");
    }

    #[test]
    fn a_welcome_has_everything_once() {
        let followed = Followed::default();
        let mut welcome = Welcome::new(&followed);
        for (name, value) in [
            ("server_version", "15.1"),
            ("TimeZone", "UTC"),
            ("server_version", "15.2"),
        ] {
            welcome.note(name, value);
        }
        assert_eq!(welcome.get("server_version"), Some("15.2"));
        assert_eq!(welcome.get("TimeZone"), Some("UTC"));
        let mut variables = Variables::new(&followed);
        variables.set("TimeZone", "Asia/Tokyo");
        variables.fill(&welcome.variables);
        let mut out = Vec::new();
        welcome.write(&variables, &mut out);
        let mut expected = Vec::new();
        write::parameter_status(&mut expected, b"server_version", b"15.2");
        write::parameter_status(&mut expected, b"TimeZone", b"Asia/Tokyo");
        assert_eq!(out, expected);
    }
}
