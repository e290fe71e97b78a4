//! An authority whose key is known, so that what comes behind a signature is reached as well.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

pub(crate) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const TEXT: u8 = 0x0c;
const MOMENT: u8 = 0x18;
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const SHA1_NAME: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256_NAME: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const SERIAL: &[u8] = &[0x12, 0x34];

/// Writes an element.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => {
            out.push(0x82);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(parts.concat());
    out
}

fn algorithm() -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[ED25519])])
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    der(BIT_STRING, &[&[0], bytes])
}

pub(crate) struct Authority {
    key: Ed25519KeyPair,
    name: Vec<u8>,
    /// `SubjectPublicKeyInfo` of its one key.
    spki: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) leaf: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let name = name("ca");
        let spki = der(SEQUENCE, &[&algorithm(), &bits(key.public_key().as_ref())]);
        let mut house = Self {
            key,
            name,
            spki,
            issuer: Vec::new(),
            leaf: Vec::new(),
        };
        let ca = [der(OBJECT_IDENTIFIER, &[&[0x55, 0x1d, 0x13]]), vec![1, 1, 0xff], {
            let constraints = der(SEQUENCE, &[&[1, 1, 0xff]]);
            der(OCTET_STRING, &[&constraints])
        }];
        let own = house.name.clone();
        house.issuer = house.certificate(&house.tbs(&own, &ca.concat()));
        let access = [
            der(OBJECT_IDENTIFIER, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1]]),
            der(0x86, &[b"http://127.0.0.1/"]),
        ];
        let access = der(SEQUENCE, &[&der(SEQUENCE, &[&access.concat()])]);
        let asks = [
            der(OBJECT_IDENTIFIER, &[&[0x2b, 6, 1, 5, 5, 7, 1, 1]]),
            der(OCTET_STRING, &[&access]),
        ];
        house.leaf = house.certificate(&house.tbs(&self::name("leaf"), &asks.concat()));
        house
    }

    /// What is signed of a certificate with our key, by us: its content.
    pub(crate) fn tbs(&self, subject: &[u8], extension: &[u8]) -> Vec<u8> {
        let time = |text: &[u8]| der(0x17, &[text]);
        let validity = [time(b"200101000000Z"), time(b"400101000000Z")];
        let extensions = der(SEQUENCE, &[&der(SEQUENCE, &[extension])]);
        [
            der(0xa0, &[&[INTEGER, 1, 2]]),
            der(INTEGER, &[SERIAL]),
            algorithm(),
            self.name.clone(),
            der(SEQUENCE, &[&validity.concat()]),
            subject.to_vec(),
            self.spki.clone(),
            der(0xa3, &[&extensions]),
        ]
        .concat()
    }

    /// A certificate of ours, of the content of what is signed.
    pub(crate) fn certificate(&self, tbs: &[u8]) -> Vec<u8> {
        let tbs = der(SEQUENCE, &[tbs]);
        let signature = bits(self.key.sign(&tbs).as_ref());
        der(SEQUENCE, &[&tbs, &algorithm(), &signature])
    }

    /// A response, of the content of what is signed.
    pub(crate) fn response(&self, data: &[u8], certificate: Option<&[u8]>) -> Vec<u8> {
        let data = der(SEQUENCE, &[data]);
        let signature = bits(self.key.sign(&data).as_ref());
        let certificates = certificate.map(|one| der(0xa0, &[&der(SEQUENCE, &[one])]));
        let certificates = certificates.unwrap_or_default();
        let basic = der(SEQUENCE, &[&data, &algorithm(), &signature, &certificates]);
        let bytes = [
            der(OBJECT_IDENTIFIER, &[BASIC]),
            der(OCTET_STRING, &[&basic]),
        ];
        let bytes = der(0xa0, &[&der(SEQUENCE, &[&bytes.concat()])]);
        der(SEQUENCE, &[&[0x0a, 1, 0], &bytes])
    }

    /// The content of what is signed of a response by who has this name (none: the authority), which
    /// says `singles`.
    pub(crate) fn data(&self, responder: Option<&[u8]>, singles: &[u8]) -> Vec<u8> {
        [
            der(0xa1, &[responder.unwrap_or(&self.name)]),
            der(MOMENT, &[b"20260101000000Z"]),
            der(SEQUENCE, &[singles]),
        ]
        .concat()
    }

    /// The `CertID` of the leaf.
    pub(crate) fn id(&self, sha256: bool) -> Vec<u8> {
        let (name, with) = match sha256 {
            true => (SHA256_NAME, &SHA256),
            false => (SHA1_NAME, &SHA1_FOR_LEGACY_USE_ONLY),
        };
        let hash = |of: &[u8]| der(OCTET_STRING, &[digest(with, of).as_ref()]);
        let parts = [
            der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[name])]),
            hash(&self.name),
            hash(self.key.public_key().as_ref()),
            der(INTEGER, &[SERIAL]),
        ];
        der(SEQUENCE, &[&parts.concat()])
    }

    /// A `SingleResponse`, in order but for what its parts may be.
    pub(crate) fn single(&self, sha256: bool, status: &[u8], this: &[u8], next: &[u8]) -> Vec<u8> {
        let next = der(0xa0, &[&der(MOMENT, &[next])]);
        let this = der(MOMENT, &[this]);
        der(SEQUENCE, &[&self.id(sha256), status, &this, &next])
    }
}

/// A name of one part.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let common = der(OBJECT_IDENTIFIER, &[&[0x55, 4, 3]]);
    let pair = der(SEQUENCE, &[&common, &der(TEXT, &[text.as_bytes()])]);
    der(SEQUENCE, &[&der(SET, &[&pair])])
}
