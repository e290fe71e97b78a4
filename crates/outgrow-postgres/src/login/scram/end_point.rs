//! The hash of a certificate for channel binding (RFC 5929 section 4.1).
//!
//! Of the certificate only the name of its signature's algorithm is read. Not here: whether the
//! certificate is any good.

use aws_lc_rs::digest::{self, Algorithm};
use outgrow_tls::der::{OBJECT_IDENTIFIER, SEQUENCE, expect};

/// `tls-server-end-point` of a certificate in DER: its hash by the algorithm of its signature,
/// SHA-256 for MD5 and SHA-1. `None` for a certificate that cannot be read or whose signature has
/// no hash (Ed25519), for which the RFC defines nothing: channel binding is not offered then.
pub fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = hash_of_signature(certificate)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The first of the parameters of RSASSA-PSS (RFC 4055 section 3.1): the hash.
const CONTEXT_0: u8 = 0xa0;

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, … }, … }`
fn hash_of_signature(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (inner, _) = expect(certificate, SEQUENCE)?;
    let (_, after) = expect(inner, SEQUENCE)?;
    let (algorithm, _) = expect(after, SEQUENCE)?;
    let (name, parameters) = expect(algorithm, OBJECT_IDENTIFIER)?;
    if name == RSASSA_PSS {
        // Without parameters it is SHA-1.
        let (parameters, _) = expect(parameters, SEQUENCE)?;
        let Some((hash, _)) = expect(parameters, CONTEXT_0) else {
            return Some(&digest::SHA256);
        };
        let (hash, _) = expect(hash, SEQUENCE)?;
        let (name, _) = expect(hash, OBJECT_IDENTIFIER)?;
        return find(HASHES, name);
    }
    find(SIGNATURES, name)
}

type Names = &'static [(&'static [u8], &'static Algorithm)];

fn find(names: Names, name: &[u8]) -> Option<&'static Algorithm> {
    let found = names.iter().find(|(one, _)| *one == name);
    found.map(|(_, algorithm)| *algorithm)
}

/// 1.2.840.113549.1.1.10
const RSASSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

const SIGNATURES: Names = &[
    // 1.2.840.113549.1.1.*: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512, SHA-224.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &digest::SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &digest::SHA512),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", &digest::SHA224),
    // 1.2.840.10045.4.*: ECDSA with SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &digest::SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", &digest::SHA224),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &digest::SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &digest::SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &digest::SHA512),
];

const HASHES: Names = &[
    // 1.3.14.3.2.26: SHA-1. 2.16.840.1.101.3.4.2.*: SHA-256, SHA-384, SHA-512, SHA-224.
    (b"\x2b\x0e\x03\x02\x1a", &digest::SHA256),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x01", &digest::SHA256),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x02", &digest::SHA384),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x03", &digest::SHA512),
    (b"\x60\x86\x48\x01\x65\x03\x04\x02\x04", &digest::SHA224),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            length @ 0..=0x7f => bytes.push(length as u8),
            length => {
                bytes.push(0x82);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        bytes.extend_from_slice(content);
        bytes
    }

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let signed = der(SEQUENCE, &[7; 300]);
        let algorithm = der(SEQUENCE, algorithm);
        der(SEQUENCE, &[signed, algorithm, vec![3, 1, 0]].concat())
    }

    /// Certificates of real libraries are in the tests with real servers.
    #[test]
    fn the_hash_is_that_of_the_signature() {
        let check = |algorithm: &[u8], expected: Option<usize>| {
            let certificate = certificate(algorithm);
            let hash = end_point_hash(&certificate);
            assert_eq!(hash.as_ref().map(Vec::len), expected, "{algorithm:x?}");
            for end in 0..certificate.len() {
                // Cut, there is nothing that panics; the end itself holds nothing of interest.
                let _ = end_point_hash(&certificate[..end]);
            }
        };
        for (name, algorithm) in SIGNATURES {
            let name = der(OBJECT_IDENTIFIER, name);
            check(&name, Some(algorithm.output_len()));
            check(&[name, vec![5, 0]].concat(), Some(algorithm.output_len()));
        }
        let pss = der(OBJECT_IDENTIFIER, RSASSA_PSS);
        for (name, algorithm) in HASHES {
            let hash = der(SEQUENCE, &der(OBJECT_IDENTIFIER, name));
            let parameters = der(SEQUENCE, &der(CONTEXT_0, &hash));
            let both = [pss.clone(), parameters].concat();
            check(&both, Some(algorithm.output_len()));
        }
        check(&[pss.clone(), der(SEQUENCE, &[])].concat(), Some(32));
        check(&pss, None);
        // Ed25519: 1.3.101.112.
        check(&der(OBJECT_IDENTIFIER, &[0x2b, 0x65, 0x70]), None);
        assert_eq!(end_point_hash(b""), None);
        assert_eq!(end_point_hash(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
