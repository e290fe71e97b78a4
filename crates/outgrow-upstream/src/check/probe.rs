//! One check: connect, and for HTTP ask and look at the status. Why it failed is told in words.

use std::io;
use std::time::Duration;

use super::http;
use crate::connect;
use crate::endpoint::Endpoint;
use crate::settings::StatusSet;

/// How the text begins when somebody answered.
const ANSWER: &str = "status";

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// Whether somebody accepts.
    Connect,
    /// A path, and which statuses are right.
    Get {
        /// With its leading slash.
        path: &'a str,
        /// The Host field.
        host: &'a str,
        /// What counts as healthy.
        status: &'a StatusSet,
    },
}

/// Asks once; what went wrong is a text for people.
pub(super) async fn ask(
    endpoint: &Endpoint,
    question: &Question<'_>,
    timeout: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, attempt(endpoint, question, timeout)).await {
        Ok(result) => result,
        Err(_) => Err(format!("timed out after {}", text_of(timeout))),
    }
}

async fn attempt(
    endpoint: &Endpoint,
    question: &Question<'_>,
    timeout: Duration,
) -> Result<(), String> {
    let mut stream = connect::open(endpoint, timeout)
        .await
        .map_err(|error| reason_of(&error))?;
    let Question::Get { path, host, status } = question else {
        return Ok(());
    };
    let got = http::get(&mut stream, path, host)
        .await
        .map_err(|error| match error {
            http::Failure::Io(error) => reason_of(&error),
            failure => failure.to_string(),
        })?;
    if status.contains(got) {
        Ok(())
    } else {
        Err(format!("{ANSWER} {got}"))
    }
}

/// Whether what went wrong is an answer, if not the right one.
pub(super) fn is_answer(reason: &str) -> bool {
    reason.starts_with(ANSWER)
}

fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        io::ErrorKind::NotFound => "nothing is at the address".to_owned(),
        _ => error.to_string(),
    }
}

fn text_of(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}
