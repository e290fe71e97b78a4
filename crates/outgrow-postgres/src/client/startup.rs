//! What a client asks for at its start: pure.

use std::borrow::Cow;

use crate::plan::House;
use crate::problem::{PROTOCOL, Refusal};
use crate::variables::Variables;
use crate::wire::Parameters;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) variables: Variables,
    /// `replication`, where it asks for that: the value.
    pub(super) replication: Option<String>,
}

/// Reads the parameters of a startup message.
pub(super) fn read(parameters: &Parameters, house: &House) -> Result<Wanted, Refusal> {
    let user = parameters.get("user").filter(|user| !user.is_empty());
    let Some(user) = user else {
        return Err(Refusal::new(PROTOCOL, "no username supplied"));
    };
    let database = parameters.get("database").filter(|name| !name.is_empty());
    let mut wanted = Wanted {
        user: user.to_owned(),
        database: database.unwrap_or(user).to_owned(),
        variables: Variables::new(&house.followed),
        replication: None,
    };
    wanted.replication = parameters.get("replication").and_then(replication);
    for (name, value) in parameters.iter() {
        match name {
            "user" | "database" | "replication" => {}
            // For the server to judge, as it stands.
            "options" if wanted.replication.is_some() => {}
            "options" => options(value, house, &mut wanted.variables)?,
            _ if name.starts_with("_pq_.") || wanted.variables.set(name, value) => {}
            _ if is_ignored(name, house) => {}
            _ => {
                let message = format!("unsupported startup parameter: {name}");
                return Err(Refusal::new(PROTOCOL, message));
            }
        }
    }
    Ok(wanted)
}

fn is_ignored(name: &str, house: &House) -> bool {
    let mut ignored = house.ignored.iter();
    ignored.any(|known| known.eq_ignore_ascii_case(name))
}

/// What `replication` asks for; false texts ask for nothing.
fn replication(value: &str) -> Option<String> {
    let off = ["false", "off", "no", "0", "f", "n"];
    let is_off = off.iter().any(|text| text.eq_ignore_ascii_case(value));
    (!is_off).then(|| value.to_owned())
}

/// `-c name=value`, `--name=value`: with backslashes before what would be a blank.
fn options(text: &str, house: &House, variables: &mut Variables) -> Result<(), Refusal> {
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().map(Cow::Owned)
        } else if let Some(rest) = word.strip_prefix("--").or(word.strip_prefix("-c")) {
            Some(Cow::Borrowed(rest))
        } else {
            None
        };
        let pair = assignment.as_ref().and_then(|pair| pair.split_once('='));
        let Some((name, value)) = pair else {
            let message = "unsupported options startup parameter: only '-c config=val' and \
                           '--config=val' are allowed";
            return Err(Refusal::new(PROTOCOL, message));
        };
        let name = name.replace('-', "_");
        if !variables.set(&name, value) && !is_ignored(&name, house) && !house.ignores_options {
            let message = format!("unsupported startup parameter in options: {name}");
            return Err(Refusal::new(PROTOCOL, message));
        }
    }
    Ok(())
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            character if character.is_ascii_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            character => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn starts_are_read() {
        let house = House {
            ignored: vec!["extra_float_digits".to_owned()],
            ..House::default()
        };
        let check = |pairs: &[(&str, &str)], expected: Result<&str, &str>| {
            let read = read(&parameters(pairs), &house).map(|wanted| {
                let set: Vec<_> = wanted
                    .variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("{}@{} {}", wanted.user, wanted.database, set.join(","))
            });
            let read = read.map_err(|refusal| refusal.message.into_owned());
            assert_eq!(
                read.as_deref().map_err(String::as_str),
                expected,
                "{pairs:?}"
            );
        };
        check(&[], Err("no username supplied"));
        check(&[("user", "a")], Ok("a@a "));
        check(
            &[
                ("user", "a"),
                ("database", "d"),
                ("datestyle", "ISO"),
                ("extra_float_digits", "3"),
            ],
            Ok("a@d DateStyle=ISO"),
        );
        check(
            &[("user", "a"), ("work_mem", "1")],
            Err("unsupported startup parameter: work_mem"),
        );
        check(
            &[
                ("user", "a"),
                (
                    "options",
                    r"-c timezone=UTC --application-name=x\ y -cdatestyle=ISO",
                ),
            ],
            Ok("a@a DateStyle=ISO,TimeZone=UTC,application_name=x y"),
        );
        check(
            &[("user", "a"), ("options", "-c work_mem=1")],
            Err("unsupported startup parameter in options: work_mem"),
        );
        check(
            &[("user", "a"), ("options", "-x")],
            Err(
                "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
            ),
        );
        check(
            &[("user", "a"), ("options", "-c")],
            Err(
                "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
            ),
        );
        check(&[("user", "a"), ("_pq_.x", "1")], Ok("a@a "));
    }

    #[test]
    fn replication_is_seen() {
        let house = House::default();
        for (value, expected) in [
            ("database", true),
            ("true", true),
            ("off", false),
            ("0", false),
        ] {
            let wanted = read(
                &parameters(&[("user", "a"), ("replication", value)]),
                &house,
            );
            assert_eq!(
                wanted.map(|wanted| wanted.replication.is_some()),
                Ok(expected),
                "{value}"
            );
        }
    }
}
