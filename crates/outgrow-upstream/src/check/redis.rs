//! A check of a Redis or Valkey server: PING, and its role where that matters. RESP2, of which only
//! the few forms of these answers are read, up to a limit.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::failure::{Failure, printable};
use crate::settings::{CheckSettings, Role};

/// Most bytes of all answers together.
const LIMIT: u64 = 64 * 1024;

const NOT_RESP: Failure = Failure::Not("Redis's");

/// Asks as the settings say: all at once, the answers come in the same order.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    check: &CheckSettings,
) -> Result<(), Failure> {
    let mut questions = Vec::new();
    let password = check.password.expose();
    if !password.is_empty() {
        let words: &[&str] = match check.user.as_str() {
            "" => &["AUTH", password],
            user => &["AUTH", user, password],
        };
        put(&mut questions, words);
    }
    put(&mut questions, &["PING"]);
    if check.role != Role::Any {
        put(&mut questions, &["INFO", "replication"]);
    }
    stream.write_all(&questions).await?;
    let mut answers = BufReader::new(stream.take(LIMIT));
    if !password.is_empty() {
        simple(&mut answers, "OK").await?;
    }
    simple(&mut answers, "PONG").await?;
    if check.role == Role::Any {
        return Ok(());
    }
    let info = bulk(&mut answers).await?;
    judge(&info, check.role)
}

/// A command as an array of texts.
fn put(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

async fn line(answers: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    answers.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(Failure::Closed);
    }
    let line = line.strip_suffix(b"\r\n").ok_or(NOT_RESP)?;
    match line.strip_prefix(b"-") {
        Some(error) => Err(Failure::Answer(advice(&printable(error)))),
        None => Ok(line.to_vec()),
    }
}

/// What an error means for who wrote the check.
fn advice(error: &str) -> String {
    if error.starts_with("NOAUTH") {
        format!("answered {error:?}: set `password` of the check")
    } else {
        format!("answered {error:?}")
    }
}

async fn simple(
    answers: &mut (impl AsyncBufReadExt + Unpin),
    expected: &str,
) -> Result<(), Failure> {
    let line = line(answers).await?;
    if line.strip_prefix(b"+") == Some(expected.as_bytes()) {
        Ok(())
    } else {
        Err(NOT_RESP)
    }
}

async fn bulk(answers: &mut (impl AsyncBufReadExt + Unpin)) -> Result<String, Failure> {
    let line = line(answers).await?;
    let length = std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_prefix('$')?.parse::<u64>().ok())
        .filter(|length| *length < LIMIT)
        .ok_or(NOT_RESP)?;
    let mut text = vec![0; length as usize];
    answers.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(|_| NOT_RESP)
}

fn judge(info: &str, role: Role) -> Result<(), Failure> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let (is, is_right) = match field("role") {
        Some("master") => ("a primary", role == Role::Primary),
        Some("slave") => ("a replica", role == Role::Replica),
        _ => return Err(NOT_RESP),
    };
    if !is_right {
        return Err(Failure::Answer(format!("it is {is}, not a {role}")));
    }
    if role == Role::Replica && field("master_link_status") != Some("up") {
        let message = "it is a replica without a link to its primary";
        return Err(Failure::Answer(message.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::Secret;

    use super::*;

    async fn check(check: &CheckSettings, answer: &[u8]) -> (String, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(128 * 1024);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let result = ask(&mut ours, check).await;
        drop(ours);
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.unwrap();
        let result = result.map_or_else(|failure| failure.to_string(), |()| "healthy".to_owned());
        (result, sent)
    }

    #[tokio::test]
    async fn answers_are_judged() {
        let any = CheckSettings::default();
        let replica = CheckSettings {
            role: Role::Replica,
            user: "u".to_owned(),
            password: Secret::new("pw"),
            ..CheckSettings::default()
        };
        let table: [(&CheckSettings, &[u8], &str); 11] = [
            (&any, b"+PONG\r\n", "healthy"),
            (
                &any,
                b"-LOADING Redis is loading\r\n",
                "answered \"LOADING Redis is loading\"",
            ),
            (
                &any,
                b"-NOAUTH Authentication required.\r\n",
                "answered \"NOAUTH Authentication required.\": set `password` of the check",
            ),
            (&any, b"+PONG", "the answer is not Redis's"),
            (&any, b"HTTP/1.1 400\r\n", "the answer is not Redis's"),
            (&any, b"", "closed the connection without an answer"),
            (
                &replica,
                b"+OK\r\n+PONG\r\n$37\r\nrole:slave\r\nmaster_link_status:up\r\n1\r\n\r\n",
                "healthy",
            ),
            (
                &replica,
                b"+OK\r\n+PONG\r\n$11\r\nrole:master\r\n",
                "it is a primary, not a replica",
            ),
            (
                &replica,
                b"+OK\r\n+PONG\r\n$10\r\nrole:slave\r\n",
                "it is a replica without a link to its primary",
            ),
            (
                &replica,
                b"+OK\r\n+PONG\r\n$99999999999\r\n",
                "the answer is not Redis's",
            ),
            (
                &replica,
                b"+OK\r\n+PONG\r\n$100\r\nrole",
                "closed the connection without an answer",
            ),
        ];
        for (settings, answer, expected) in table {
            let (result, sent) = check(settings, answer).await;
            assert_eq!(result, expected, "{}", answer.escape_ascii());
            let asked = if settings.role == Role::Any {
                "*1\r\n$4\r\nPING\r\n"
            } else {
                "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$2\r\npw\r\n*1\r\n$4\r\nPING\r\n\
                 *2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"
            };
            assert_eq!(sent, asked);
        }
        let endless = vec![b'+'; 2 * LIMIT as usize - 1];
        assert_eq!(check(&any, &endless).await.0, "the answer is not Redis's");
    }
}
