//! A check of a Postgres server: whether it takes sessions, and its role where that matters.
//! Protocol 3.0, of which only what a session's start and one simple query need is spoken, up to
//! limits. Deliberately not here: TLS, which the connection has already where there is to be any.
//!
//! Without a login it is what `pg_isready` does: any answer to the start of a session is one of
//! a server that lives, but that it is just starting or stopping.

use outgrow_core::random::system_bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::failure::{Failure, printable};
use crate::scram::{self, Binding, Client, Problem};
use crate::settings::{CheckSettings, Role};

/// Longest message.
const MESSAGE_LIMIT: usize = 16 * 1024;

/// Most messages of a session.
const MOST_MESSAGES: usize = 200;

/// Who asks when the check has no user.
const NOBODY: &str = "outgrow_check";

/// `cannot_connect_now`: the server starts or stops.
const CANNOT_CONNECT_NOW: &[u8] = b"57P03";

/// Most iterations of a login: a server that asks for more would use up our time. Postgres has
/// 4096.
const MOST_ITERATIONS: u32 = 100_000;

const NOT_POSTGRES: Failure = Failure::Not("Postgres's");

const QUERY: &[u8] = b"SELECT pg_catalog.pg_is_in_recovery()\0";

/// Asks as the settings say. `keys` remembers what the login computed for the next time.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    check: &CheckSettings,
    keys: &scram::Memory,
) -> Result<(), Failure> {
    let mut session = Session {
        stream: BufReader::new(stream),
        read: 0,
    };
    session.start(check).await?;
    if !session.log_in(check, keys).await? || check.role == Role::Any {
        // Says goodbye, so that the server logs no lost connection; whether it hears is no matter.
        let _ = session.send(b'X', &[]).await;
        return Ok(());
    }
    session.send(b'Q', QUERY).await?;
    let is_replica = loop {
        let (kind, body) = session.receive().await?;
        match kind {
            b'D' => break is_true(&body)?,
            b'E' => return Err(refusal(&body)),
            _ => {}
        }
    };
    let _ = session.send(b'X', &[]).await;
    match (check.role, is_replica) {
        (Role::Primary, true) => Err(Failure::Answer("it is a replica, not a primary".to_owned())),
        (Role::Replica, false) => Err(Failure::Answer("it is a primary, not a replica".to_owned())),
        _ => Ok(()),
    }
}

struct Session<S> {
    stream: BufReader<S>,
    /// Messages so far.
    read: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn start(&mut self, check: &CheckSettings) -> Result<(), Failure> {
        const PROTOCOL: u32 = 3 << 16;
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        let user = match check.user.as_str() {
            "" => NOBODY,
            user => user,
        };
        let mut put = |name: &str, value: &str| {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        };
        put("user", user);
        if !check.database.is_empty() {
            put("database", &check.database);
        }
        put("application_name", "outgrow-check");
        body.push(0);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Goes on until the server takes queries; false when nobody wants to log in and the server
    /// lives.
    async fn log_in(
        &mut self,
        check: &CheckSettings,
        keys: &scram::Memory,
    ) -> Result<bool, Failure> {
        let mut scram: Option<Client> = None;
        loop {
            let (kind, body) = self.receive().await?;
            match kind {
                b'E' if field(&body, b'C') == Some(CANNOT_CONNECT_NOW) || check.logs_in() => {
                    return Err(refusal(&body));
                }
                b'E' | b'R' if !check.logs_in() => return Ok(false),
                b'R' => match authentication(&body)? {
                    (0, _) => {
                        if scram.as_ref().is_some_and(|scram| !scram.is_verified()) {
                            // Who did not show that it knows the password is not the server.
                            return Err(Problem::NotProven.into());
                        }
                    }
                    (10, ways) => {
                        let is_spoken = |way: &[u8]| way == scram::NAME.as_bytes();
                        if !ways.split(|&byte| byte == 0).any(is_spoken) {
                            return Err(unspoken());
                        }
                        if check.password.is_empty() {
                            let message = "asks for a password: set `password` of the check";
                            return Err(Failure::Answer(message.to_owned()));
                        }
                        let mut nonce = [0; scram::NONCE_BYTES];
                        system_bytes(&mut nonce);
                        let begun = Client::new(&nonce, Binding::Unsupported);
                        let first = begun.first();
                        let mut reply = format!("{}\0", scram::NAME).into_bytes();
                        reply.extend_from_slice(&(first.len() as u32).to_be_bytes());
                        reply.extend_from_slice(first.as_bytes());
                        self.send(b'p', &reply).await?;
                        scram = Some(begun);
                    }
                    (11, text) => {
                        let scram = scram.as_mut().ok_or(NOT_POSTGRES)?;
                        let challenge = scram.challenge(text, MOST_ITERATIONS)?;
                        let password = check.password.expose().as_bytes();
                        let reply = scram.respond(&keys.keys(password, &challenge))?;
                        self.send(b'p', reply.as_bytes()).await?;
                    }
                    (12, text) => scram.as_mut().ok_or(NOT_POSTGRES)?.verify(text)?,
                    _ => return Err(unspoken()),
                },
                b'Z' => return Ok(true),
                // ParameterStatus, BackendKeyData, notices, a lower version of the protocol.
                b'S' | b'K' | b'N' | b'v' => {}
                _ => return Err(NOT_POSTGRES),
            }
        }
    }

    async fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), Failure> {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        self.read += 1;
        if self.read > MOST_MESSAGES {
            return Err(NOT_POSTGRES);
        }
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).await?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MESSAGE_LIMIT).contains(&length) {
            return Err(NOT_POSTGRES);
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::NotScram => Self::Not("of SCRAM-SHA-256"),
            other => Self::Answer(other.to_string()),
        }
    }
}

/// What an authentication message asks for, and the rest of it.
fn authentication(body: &[u8]) -> Result<(u32, &[u8]), Failure> {
    let (number, rest) = body.split_first_chunk().ok_or(NOT_POSTGRES)?;
    Ok((u32::from_be_bytes(*number), rest))
}

fn unspoken() -> Failure {
    let message = "asks for a login that a check does not speak: give its user scram-sha-256 or \
                   trust in pg_hba.conf";
    Failure::Answer(message.to_owned())
}

/// A field of an error: each begins with its letter and ends with a NUL.
fn field(body: &[u8], letter: u8) -> Option<&[u8]> {
    let mut fields = body.split(|&byte| byte == 0);
    fields.find_map(|field| field.strip_prefix(&[letter]))
}

fn refusal(body: &[u8]) -> Failure {
    let text = field(body, b'M').map(printable).unwrap_or_default();
    Failure::Answer(format!("answered {text:?}"))
}

/// The one boolean of a row.
fn is_true(row: &[u8]) -> Result<bool, Failure> {
    match row {
        [0, 1, 0, 0, 0, 1, value @ (b't' | b'f')] => Ok(*value == b't'),
        _ => Err(NOT_POSTGRES),
    }
}

#[cfg(test)]
mod tests {
    use outgrow_core::settings::Secret;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        message
    }

    async fn check(settings: &CheckSettings, answer: &[u8]) -> String {
        let (mut ours, mut theirs) = tokio::io::duplex(128 * 1024);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let result = ask(&mut ours, settings, &scram::Memory::default()).await;
        result.map_or_else(|failure| failure.to_string(), |()| "healthy".to_owned())
    }

    /// What real servers answer is in the tests with real servers.
    #[tokio::test]
    async fn answers_are_judged() {
        let any = CheckSettings::default();
        let primary = CheckSettings {
            role: Role::Primary,
            user: "u".to_owned(),
            ..CheckSettings::default()
        };
        let secret = CheckSettings {
            password: Secret::new("pw"),
            ..primary.clone()
        };
        let starting = message(
            b'E',
            b"SFATAL\0C57P03\0Mthe database system is starting up\0\0",
        );
        let no_user = message(b'E', b"SFATAL\0C28000\0Mrole \"x\" does not exist\0\0");
        let md5 = message(b'R', b"\0\0\0\x05salt");
        let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let good = message(b'R', b"\0\0\0\0");
        let starting_text = "answered \"the database system is starting up\"";
        assert_eq!(check(&any, &starting).await, starting_text);
        assert_eq!(check(&any, &no_user).await, "healthy");
        assert_eq!(check(&any, &md5).await, "healthy");
        assert_eq!(check(&any, &good).await, "healthy");
        let closed = "closed the connection without an answer";
        assert_eq!(check(&any, b"").await, closed);
        assert_eq!(check(&any, b"E\0\0").await, closed);
        let other = "the answer is not Postgres's";
        assert_eq!(check(&any, b"HTTP/1.1 400 Bad Request\r\n").await, other);
        let refused = "answered \"role \\\"x\\\" does not exist\"";
        assert_eq!(check(&primary, &no_user).await, refused);
        assert!(
            check(&primary, &md5)
                .await
                .contains("scram-sha-256 or trust")
        );
        assert!(check(&primary, &sasl).await.contains("set `password`"));
        for row in [
            b"\0\x01\0\0\0\x01t",
            b"\0\x01\0\0\0\x01f",
            b"\0\x01\0\0\0\x01x",
        ] {
            let answer = [good.clone(), message(b'Z', b"I"), message(b'D', row)].concat();
            let expected = match row[6] {
                b't' => "it is a replica, not a primary",
                b'f' => "healthy",
                _ => other,
            };
            assert_eq!(check(&primary, &answer).await, expected);
        }
        // One that lets everybody in after it asked for a proof has proven nothing itself.
        let impostor = [sasl, good, message(b'Z', b"I")].concat();
        assert_eq!(
            check(&secret, &impostor).await,
            Problem::NotProven.to_string()
        );
        let endless = message(b'N', b"\0").repeat(MOST_MESSAGES + 1);
        assert_eq!(check(&primary, &endless).await, other);
    }
}
