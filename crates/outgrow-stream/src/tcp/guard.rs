//! What must not come: a PROXY header of somebody who is not believed, at a listener where proxies
//! say whose connection it is. What follows us may believe us, and so it.

use outgrow_net::proxy_header::begins;

/// How far the look at a client's first bytes is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Guard {
    /// There is nothing (more) to look for.
    #[default]
    Passed,
    /// They may become one.
    Looks,
    /// It is one.
    Forged,
}

/// What a client's first bytes are.
pub(super) fn look(bytes: &[u8]) -> Guard {
    match begins(bytes) {
        None => Guard::Looks,
        Some(true) => Guard::Forged,
        Some(false) => Guard::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_seen_however_it_comes() {
        for whole in [&b"PROXY TCP4 1.2.3.4"[..], b"\r\n\r\n\0\r\nQUIT\n\x21"] {
            let passes = (0..6).all(|end| look(&whole[..end]) == Guard::Looks);
            assert!(passes, "{whole:?}");
            assert_eq!(look(whole), Guard::Forged);
        }
        assert_eq!(look(b"PROXIMITY"), Guard::Passed);
        assert_eq!(look(b"\r\n\r\nGET"), Guard::Passed);
        assert_eq!(look(b"*1\r\n"), Guard::Passed);
    }
}
