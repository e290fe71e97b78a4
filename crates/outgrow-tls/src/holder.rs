//! Whom a certificate is for, in the names that people and databases know: the common name of its
//! subject, DNS names and e-mail addresses.
//!
//! A certificate comes here after TLS has verified it; what cannot be read has no names all the
//! same, and nothing panics. Not here: whether it can be trusted.

use outgrow_core::hex;

use crate::der::{OBJECT_IDENTIFIER, SEQUENCE, element, expect};

/// Most names that are taken from a certificate.
const NAMES: usize = 256;
/// Most entries of a subject that are looked at.
const ENTRIES: usize = 256;

/// Whom a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The common name of its subject; none when there is none, or more than one, or one that is
    /// no text (with a NUL in it, for example).
    pub common_name: Option<String>,
    /// The DNS names and e-mail addresses among its alternative names.
    pub alternative_names: Vec<String>,
    /// The URIs among them (SPIFFE's, for example).
    pub uris: Vec<String>,
    /// Whether hosts are among the alternative names (DNS names or IP addresses): then the common
    /// name is none of a host (RFC 6125 section 6.4.4).
    pub names_hosts: bool,
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const BOOLEAN: u8 = 0x01;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

impl Holder {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        read(certificate).unwrap_or_default()
    }
}

/// SHA-256 of a certificate in DER, in hexadecimal digits.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    hex::encode(digest.as_ref())
}

/// `TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature, issuer, validity, subject,
/// subjectPublicKeyInfo, …, [3] extensions }` (RFC 5280 section 4.1).
fn read(certificate: &[u8]) -> Option<Holder> {
    let (inner, _) = expect(certificate, SEQUENCE)?;
    let (signed, _) = expect(inner, SEQUENCE)?;
    let after_version = match expect(signed, VERSION) {
        Some((_, rest)) => rest,
        None => signed,
    };
    let (_, rest) = expect(after_version, INTEGER)?;
    let (_signature, rest) = expect(rest, SEQUENCE)?;
    let (_issuer, rest) = expect(rest, SEQUENCE)?;
    let (_validity, rest) = expect(rest, SEQUENCE)?;
    let (subject, rest) = expect(rest, SEQUENCE)?;
    let (_key, mut rest) = expect(rest, SEQUENCE)?;
    let mut holder = Holder {
        common_name: common_name(subject),
        ..Holder::default()
    };
    while let Some((tag, content, after)) = element(rest) {
        if tag == EXTENSIONS {
            extensions(content, &mut holder)?;
        }
        rest = after;
    }
    Some(holder)
}

/// The one common name in a subject.
fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    for _ in 0..ENTRIES {
        if subject.is_empty() {
            return found.flatten();
        }
        let (mut set, rest) = expect(subject, SET)?;
        subject = rest;
        while let Some((pair, rest)) = expect(set, SEQUENCE) {
            set = rest;
            let (kind, value) = expect(pair, OBJECT_IDENTIFIER)?;
            if kind != COMMON_NAME {
                continue;
            }
            if found.is_some() {
                return None;
            }
            let (tag, value, _) = element(value)?;
            found = Some(match tag {
                UTF8_STRING | PRINTABLE_STRING | IA5_STRING => text(value),
                _ => None,
            });
        }
    }
    None
}

fn extensions(content: &[u8], holder: &mut Holder) -> Option<()> {
    let (mut extensions, _) = expect(content, SEQUENCE)?;
    while let Some((extension, rest)) = expect(extensions, SEQUENCE) {
        extensions = rest;
        let (kind, value) = expect(extension, OBJECT_IDENTIFIER)?;
        if kind != ALTERNATIVE_NAMES {
            continue;
        }
        let value = expect(value, BOOLEAN).map_or(value, |(_, rest)| rest);
        let (value, _) = expect(value, OCTET_STRING)?;
        let (mut names, _) = expect(value, SEQUENCE)?;
        while let Some((tag, name, rest)) = element(names) {
            names = rest;
            holder.names_hosts |= matches!(tag, DNS | IP);
            if matches!(tag, DNS | EMAIL) && holder.alternative_names.len() < NAMES {
                holder.alternative_names.extend(text(name));
            }
            if tag == URI && holder.uris.len() < NAMES {
                holder.uris.extend(text(name));
            }
        }
    }
    Some(())
}

/// A name without a NUL or other things that no name has: with them, what one reader takes for the
/// end of a name is in the middle of it for another.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_name = !text.is_empty() && !text.chars().any(char::is_control);
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name = DistinguishedName::new();
        edit(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signed").der().to_vec()
    }

    fn check(
        edit: impl FnOnce(&mut CertificateParams),
        common_name: Option<&str>,
        alternative_names: &[&str],
        names_hosts: bool,
    ) {
        let certificate = certificate(edit);
        let holder = Holder::of(&certificate);
        assert_eq!(holder.common_name.as_deref(), common_name);
        assert_eq!(holder.alternative_names, alternative_names);
        assert_eq!(holder.names_hosts, names_hosts, "{common_name:?}");
        for end in 0..certificate.len() {
            let _ = Holder::of(&certificate[..end]);
        }
    }

    #[test]
    fn names_are_found() {
        let push = |params: &mut CertificateParams, kind, value: &str| {
            params.distinguished_name.push(kind, value);
        };
        check(|_| {}, None, &[], false);
        check(
            |params| push(params, DnType::CommonName, "ann"),
            Some("ann"),
            &[],
            false,
        );
        check(
            |params| {
                push(params, DnType::OrganizationName, "ann");
                push(params, DnType::CommonName, "Ängström");
                let name = |text: &str| text.try_into().expect("a name");
                params.subject_alt_names = vec![
                    SanType::DnsName(name("db.example")),
                    SanType::IpAddress([10, 0, 0, 1].into()),
                    SanType::Rfc822Name(name("ann@example")),
                    SanType::URI(name("spiffe://ann")),
                ];
            },
            Some("Ängström"),
            &["db.example", "ann@example"],
            true,
        );
        check(
            |params| {
                push(params, DnType::CommonName, "ann");
                let mail = "ann@example".try_into().expect("a name");
                params.subject_alt_names = vec![SanType::Rfc822Name(mail)];
            },
            Some("ann"),
            &["ann@example"],
            false,
        );
        // What ends at the NUL for some, and would be somebody else then.
        check(
            |params| push(params, DnType::CommonName, "ann\0.evil"),
            None,
            &[],
            false,
        );
        check(
            |params| push(params, DnType::CommonName, ""),
            None,
            &[],
            false,
        );
        let wide = DnValue::BmpString("ann".try_into().expect("a name"));
        check(
            |params| params.distinguished_name.push(DnType::CommonName, wide),
            None,
            &[],
            false,
        );
    }

    #[test]
    fn of_two_common_names_neither_counts() {
        let mut certificate = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, "ann");
            name.push(DnType::OrganizationName, "bob");
        });
        let organisation = [0x55, 0x04, 0x0a];
        assert_eq!(Holder::of(&certificate).common_name.as_deref(), Some("ann"));
        while let Some(at) = certificate.windows(3).position(|part| part == organisation) {
            certificate[at..at + 3].copy_from_slice(COMMON_NAME);
        }
        assert_eq!(Holder::of(&certificate), Holder::default());
    }

    #[test]
    fn nonsense_has_no_names() {
        for bytes in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", &[0x30; 64]] {
            assert_eq!(Holder::of(bytes), Holder::default(), "{bytes:x?}");
        }
    }
}
