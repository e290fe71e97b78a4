//! A check of a protocol that is not known here: a text is sent, another one is expected.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::{Failure, printable};

/// How much of the answer is looked at.
const LIMIT: usize = 4 * 1024;

/// Sends the one, reads until the other is there; an empty one is left out.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    send: &str,
    expect: &str,
) -> Result<(), Failure> {
    stream.write_all(send.as_bytes()).await?;
    if expect.is_empty() {
        return Ok(());
    }
    let mut answer = [0; LIMIT];
    let mut length = 0;
    loop {
        let read = stream.read(&mut answer[length..]).await?;
        length += read;
        let seen = &answer[..length];
        if seen
            .windows(expect.len())
            .any(|window| window == expect.as_bytes())
        {
            return Ok(());
        }
        if length == 0 {
            return Err(Failure::Closed);
        }
        if read == 0 {
            let seen = printable(seen);
            return Err(Failure::Answer(format!(
                "answered {seen:?}, in which {expect:?} is not"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_text_is_sent_and_another_expected() {
        async fn check(pieces: &[&[u8]], expect: &str) -> String {
            let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
            for piece in pieces {
                theirs.write_all(piece).await.unwrap();
            }
            let mut sent = [0; 6];
            let ask = async {
                let result = ask(&mut ours, "PING\r\n", expect).await;
                result.map_or_else(|failure| failure.to_string(), |()| "healthy".to_owned())
            };
            let serve = async {
                theirs.read_exact(&mut sent).await.unwrap();
                drop(theirs);
            };
            let (result, ()) = tokio::join!(ask, serve);
            assert_eq!(&sent, b"PING\r\n");
            result
        }
        assert_eq!(check(&[b"+PO", b"NG\r\n"], "+PONG").await, "healthy");
        assert_eq!(check(&[], "").await, "healthy");
        let closed = "closed the connection without an answer";
        assert_eq!(check(&[], "+PONG").await, closed);
        let other = "answered \"-ERR\", in which \"+PONG\" is not";
        assert_eq!(check(&[b"-ERR\r\n"], "+PONG").await, other);
        let late = [[b'x'; LIMIT].as_slice(), b"+PONG"];
        assert!(check(&late, "+PONG").await.starts_with("answered \"xxx"));
    }
}
