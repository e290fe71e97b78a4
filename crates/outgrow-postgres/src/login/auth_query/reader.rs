//! Reads the result: bodies of RowDescription and DataRow.

use super::Answer;
use crate::login::secret::{Secret, SecretProblem};

/// Why a result tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not user and secret.
    #[error("auth_query gives {0} columns: it must give two, the user and the secret")]
    Columns(usize),
    /// Nobody knows which one counts.
    #[error("auth_query gives more than one row for a user")]
    Rows,
    /// The secret would be somebody else's.
    #[error("auth_query gives another user than the one that was asked for")]
    OtherUser,
    /// There is no user without a name.
    #[error("auth_query gives a user without a name")]
    NoName,
    /// The secret is of no use.
    #[error("auth_query gives a secret that cannot be used: {0}")]
    Secret(#[from] SecretProblem),
    /// Not a message of the protocol.
    #[error("the result of auth_query is malformed")]
    Malformed,
}

/// Reads the result for one user. The values must be in the text format.
#[derive(Debug)]
pub struct Reader<'a> {
    user: &'a str,
    answer: Option<Answer>,
}

impl<'a> Reader<'a> {
    /// For the user that was asked for.
    pub fn new(user: &'a str) -> Self {
        Self { user, answer: None }
    }

    /// The body of RowDescription.
    pub fn description(&self, body: &[u8]) -> Result<(), Problem> {
        match count(body)?.0 {
            2 => Ok(()),
            other => Err(Problem::Columns(other)),
        }
    }

    /// The body of a DataRow.
    pub fn row(&mut self, body: &[u8]) -> Result<(), Problem> {
        if self.answer.is_some() {
            return Err(Problem::Rows);
        }
        let (columns, rest) = count(body)?;
        if columns != 2 {
            return Err(Problem::Columns(columns));
        }
        let (user, rest) = value(rest)?;
        let (secret, rest) = value(rest)?;
        if !rest.is_empty() {
            return Err(Problem::Malformed);
        }
        if user.ok_or(Problem::NoName)? != self.user.as_bytes() {
            return Err(Problem::OtherUser);
        }
        let secret = Secret::read(secret.unwrap_or_default())?;
        self.answer = Some(Answer::User(secret));
        Ok(())
    }

    /// The result is complete.
    pub fn end(self) -> Answer {
        self.answer.unwrap_or(Answer::Nobody)
    }
}

fn count(body: &[u8]) -> Result<(usize, &[u8]), Problem> {
    let (&count, rest) = body.split_first_chunk().ok_or(Problem::Malformed)?;
    Ok((usize::from(u16::from_be_bytes(count)), rest))
}

/// A value, and what comes after it. A length of -1 is null.
fn value(body: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Problem> {
    let (&length, rest) = body.split_first_chunk().ok_or(Problem::Malformed)?;
    let length = i32::from_be_bytes(length);
    if length == -1 {
        return Ok((None, rest));
    }
    let length = usize::try_from(length).map_err(|_| Problem::Malformed)?;
    let (value, rest) = rest.split_at_checked(length).ok_or(Problem::Malformed)?;
    Ok((Some(value), rest))
}
