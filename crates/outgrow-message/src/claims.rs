//! Names of fields that say who the client is.
//!
//! Endpoints believe what a proxy writes into them, so nobody else's are to reach an endpoint. Names
//! that Outgrow itself writes or reads are [`Known`](crate::Known) and looked for by number; here is
//! what is left. Deliberately not here: whose are believed.

/// Whether a field's name that is no [`Known`](crate::Known) one says who the client is: to an
/// endpoint it looks as if the proxy had said it. Letters of any case; an underscore is a dash to
/// whoever makes variables of fields (RFC 3875 section 4.1.18).
///
/// Each of them begins with an X or with "client": see
/// [`Fields::may_have_claims`](crate::Fields::may_have_claims).
pub fn is_claim(name: &[u8]) -> bool {
    let is = |wanted: &[u8]| name.len() == wanted.len() && begins(name, wanted);
    begins(name, b"x-forwarded-")
        || is(b"x-real-ip")
        || is(b"x-request-id")
        || is_of_certificate(name)
}

/// Whether a field's name is of those that tell of a client's certificate: `Client-Cert` and
/// `Client-Cert-Chain` (RFC 9440), and `X-Client-Cert-*`.
pub fn is_of_certificate(name: &[u8]) -> bool {
    begins(name, b"client-cert") || begins(name, b"x-client-cert-")
}

/// Whether a name may be a claim, by its beginning alone.
#[inline]
pub(crate) fn may_be_claim(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x' | b'X') => true,
        Some(b'c' | b'C') => begins(name, b"client"),
        _ => false,
    }
}

/// Whether a name begins with `wanted`, whatever the case, and with dashes or underscores.
fn begins(name: &[u8], wanted: &[u8]) -> bool {
    name.len() >= wanted.len()
        && name.iter().zip(wanted).all(|(&byte, &wanted)| {
            byte.to_ascii_lowercase() == wanted || (byte == b'_' && wanted == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_who_the_client_is() {
        for name in [
            "X-Forwarded-User",
            "x_forwarded_user",
            "X-Real-IP",
            "x_request_id",
            "Client-Cert",
            "client_cert",
            "CLIENT-CERT-CHAIN",
            "X-Client-Cert-CN",
        ] {
            assert!(is_claim(name.as_bytes()), "{name}");
            assert!(may_be_claim(name.as_bytes()), "{name}");
        }
        for name in ["X-Real-IPs", "X-Forwarded", "Clients", "Cookie", "X", ""] {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
        assert!(!may_be_claim(b"Cache-Status"));
    }
}
