//! The command line: words, `--flag` and `--name value` (or `--name=value`), in any order.
//!
//! By hand, so that xtask needs no parser crate. Deliberately not here: defaults and meanings; each
//! command takes what it knows and refuses the rest by [`Arguments::finish`].

use std::str::FromStr;

use anyhow::{Context, bail};

/// What is left of the command line.
pub(crate) struct Arguments {
    rest: Vec<String>,
}

impl Arguments {
    /// All of the given words.
    pub(crate) fn new(words: impl Iterator<Item = String>) -> Self {
        Self {
            rest: words.collect(),
        }
    }

    /// Takes the first word, whatever it is.
    pub(crate) fn word(&mut self) -> Option<String> {
        (!self.rest.is_empty()).then(|| self.rest.remove(0))
    }

    /// Takes `name`; false when it is not there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|word| word != name);
        self.rest.len() < before
    }

    /// Takes `name VALUE` or `name=VALUE`.
    pub(crate) fn value(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let with_equals = format!("{name}=");
        let Some(at) = self
            .rest
            .iter()
            .position(|word| word == name || word.starts_with(&with_equals))
        else {
            return Ok(None);
        };
        let word = self.rest.remove(at);
        if let Some(value) = word.strip_prefix(&with_equals) {
            return Ok(Some(value.to_owned()));
        }
        if at == self.rest.len() {
            bail!("{name} needs a value");
        }
        Ok(Some(self.rest.remove(at)))
    }

    /// Takes `name VALUE` and reads it as a `T`.
    pub(crate) fn parsed<T>(&mut self, name: &str) -> anyhow::Result<Option<T>>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.value(name)?
            .map(|value| {
                value
                    .parse()
                    .with_context(|| format!("{name} cannot be `{value}`"))
            })
            .transpose()
    }

    /// The words that are left; options among them are refused.
    pub(crate) fn words(self) -> anyhow::Result<Vec<String>> {
        if let Some(option) = self.rest.iter().find(|word| word.starts_with('-')) {
            bail!("there is no option `{option}` here; see `cargo xtask help`");
        }
        Ok(self.rest)
    }

    /// Refuses whatever is left.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.words()?.first() {
            None => Ok(()),
            Some(word) => bail!("`{word}` means nothing here; see `cargo xtask help`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let mut given = arguments("edge --rounds=3 --json --peers nginx,haproxy");
        assert_eq!(given.word().as_deref(), Some("edge"));
        assert_eq!(
            given.value("--peers").unwrap().as_deref(),
            Some("nginx,haproxy")
        );
        assert_eq!(given.parsed::<usize>("--rounds").unwrap(), Some(3));
        assert!(given.flag("--json"));
        assert!(!given.flag("--json"));
        given.finish().unwrap();
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(arguments("--jsno").finish().is_err());
        assert!(arguments("extra").finish().is_err());
        assert!(arguments("--rounds").value("--rounds").is_err());
        assert!(
            arguments("--rounds many")
                .parsed::<usize>("--rounds")
                .is_err()
        );
    }
}
