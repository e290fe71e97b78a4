//! Keys that follow from a secret (HKDF, RFC 5869), one for each purpose.

use aws_lc_rs::hkdf;

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out` with the key for `purpose`; none where the library refuses the length, which must be no
/// more than 255 times that of the hash (section 2.3).
pub fn fill(material: &hkdf::Prk, purpose: &[u8], out: &mut [u8]) -> Option<()> {
    let info = [purpose];
    let output = material.expand(&info, Length(out.len())).ok()?;
    output.fill(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_example_of_the_rfc() {
        // RFC 5869 appendix A.1.
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let material = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(&[0x0b; 22]);
        let mut key = [0; 42];
        fill(&material, &info, &mut key).expect("a key");
        assert_eq!(key[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        assert_eq!(key[38..], [0x87, 0x18, 0x58, 0x65][..]);
        assert_eq!(fill(&material, b"", &mut [0; 255 * 32 + 1]), None);
    }
}
