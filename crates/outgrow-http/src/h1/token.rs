//! Classes of bytes.

const fn table(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < members.len() {
        table[members[at] as usize] = true;
        at += 1;
    }
    table
}

/// RFC 9110 section 5.6.2.
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// What a host may consist of here: names, addresses, brackets are looked at apart.
static HOST: [bool; 256] = table(b"-._~%");

/// Whether all bytes are token characters; true for an empty slice.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Whether all bytes may stand in a field value: HTAB, SP to `~`, and bytes above 0x7f.
#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "no branch per byte: the compiler makes vectors"
)]
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    let bad = |byte: u8| ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f);
    !bytes.iter().fold(false, |found, &byte| found | bad(byte))
}

/// Whether all bytes may stand in a request target: visible ASCII but `#`.
#[inline]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "no branch per byte: the compiler makes vectors"
)]
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    let bad = |byte: u8| (byte <= 0x20) | (byte >= 0x7f) | (byte == b'#');
    !bytes.iter().fold(false, |found, &byte| found | bad(byte))
}

/// Whether `authority` is `host`, `host:port`, `[v6]` or `[v6]:port`; an empty one is not.
pub(crate) fn is_authority(authority: &[u8]) -> bool {
    let host = outgrow_message::head::host_of(authority);
    let rest = &authority[host.len()..];
    let port_is_good = match rest {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let host_is_good = match host {
        [] => false,
        [b'[', inner @ .., b']'] => {
            !inner.is_empty()
                && inner
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        _ => host.iter().all(|&byte| HOST[usize::from(byte)]),
    };
    host_is_good && port_is_good
}
