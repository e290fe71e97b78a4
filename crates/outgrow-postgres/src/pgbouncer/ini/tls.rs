//! Lists of TLS versions and cipher suites, as settings hold them.
//!
//! They are texts in [`Settings`](super::Settings), since PgBouncer looks at them only when it sets
//! TLS up: a wrong one then keeps what was before. Deliberately not here: OpenSSL's lists of ciphers
//! for TLS up to 1.2.

/// TLS versions that may be spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.0.
    pub v1_0: bool,
    /// TLS 1.1.
    pub v1_1: bool,
    /// TLS 1.2.
    pub v1_2: bool,
    /// TLS 1.3.
    pub v1_3: bool,
}

impl TlsVersions {
    /// All.
    pub const ALL: Self = Self::of([true; 4]);
    /// `secure`, the default.
    pub const SECURE: Self = Self::of([false, false, true, true]);

    /// Reads a list by commas or colons, such as `tlsv1.2,tlsv1.3`, `all` or `!tlsv1.0`; an empty
    /// text is all. None when a word is not known.
    pub fn read(list: &str) -> Option<Self> {
        if list.is_empty() {
            return Some(Self::ALL);
        }
        let mut versions = [false; 4];
        for word in list.split([',', ':']) {
            let word = word.trim_start_matches([' ', '\t']);
            let (word, is_wanted) = match word.strip_prefix('!') {
                Some(word) => (word, false),
                None => (word, true),
            };
            // A list that begins with what is not wanted begins with all.
            if !is_wanted && versions == [false; 4] {
                versions = [true; 4];
            }
            for (version, is_meant) in versions.iter_mut().zip(Self::word(word)?.to_array()) {
                if is_meant {
                    *version = is_wanted;
                }
            }
        }
        Some(Self::of(versions))
    }

    fn word(word: &str) -> Option<Self> {
        let versions = match word.to_ascii_lowercase().as_str() {
            "all" | "tlsv1" => Self::ALL,
            "default" | "secure" => Self::SECURE,
            "tlsv1.0" => Self::of([true, false, false, false]),
            "tlsv1.1" => Self::of([false, true, false, false]),
            "tlsv1.2" => Self::of([false, false, true, false]),
            "tlsv1.3" => Self::of([false, false, false, true]),
            _ => return None,
        };
        Some(versions)
    }

    const fn of([v1_0, v1_1, v1_2, v1_3]: [bool; 4]) -> Self {
        Self {
            v1_0,
            v1_1,
            v1_2,
            v1_3,
        }
    }

    const fn to_array(self) -> [bool; 4] {
        [self.v1_0, self.v1_1, self.v1_2, self.v1_3]
    }
}

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls13Suite {
    /// TLS_AES_256_GCM_SHA384
    Aes256Gcm,
    /// TLS_CHACHA20_POLY1305_SHA256
    ChaCha20Poly1305,
    /// TLS_AES_128_GCM_SHA256
    Aes128Gcm,
    /// TLS_AES_128_CCM_SHA256
    Aes128Ccm,
    /// TLS_AES_128_CCM_8_SHA256
    Aes128Ccm8,
}

impl Tls13Suite {
    /// Reads a list by colons; none when a name is not known (`failed to set the TLSv1.3 cipher
    /// suites`).
    pub fn read(list: &str) -> Option<Vec<Self>> {
        let names = list.split(':').filter(|name| !name.is_empty());
        names
            .map(|name| match name {
                "TLS_AES_256_GCM_SHA384" => Some(Self::Aes256Gcm),
                "TLS_CHACHA20_POLY1305_SHA256" => Some(Self::ChaCha20Poly1305),
                "TLS_AES_128_GCM_SHA256" => Some(Self::Aes128Gcm),
                "TLS_AES_128_CCM_SHA256" => Some(Self::Aes128Ccm),
                "TLS_AES_128_CCM_8_SHA256" => Some(Self::Aes128Ccm8),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed() {
        let check = |list: &str, expected: Option<[u8; 4]>| {
            let found = TlsVersions::read(list).map(|one| one.to_array().map(u8::from));
            assert_eq!(found, expected, "{list:?}");
        };
        check("", Some([1, 1, 1, 1]));
        check("all", Some([1, 1, 1, 1]));
        check("secure", Some([0, 0, 1, 1]));
        check("TLSv1.3", Some([0, 0, 0, 1]));
        check("tlsv1.0, tlsv1.2", Some([1, 0, 1, 0]));
        check("tlsv1.1:tlsv1.3", Some([0, 1, 0, 1]));
        check("!tlsv1.0", Some([0, 1, 1, 1]));
        check("secure,!tlsv1.2", Some([0, 0, 0, 1]));
        check("tlsv1", Some([1, 1, 1, 1]));
        for wrong in ["sslv3", "tlsv1.2,", "tlsv1.2 ,tlsv1.3", "!", "tlsv1.4"] {
            check(wrong, None);
        }
    }

    #[test]
    fn suites_are_listed() {
        let check = |list: &str, expected: Option<&[Tls13Suite]>| {
            assert_eq!(Tls13Suite::read(list).as_deref(), expected, "{list:?}");
        };
        check("", Some(&[]));
        check("TLS_AES_256_GCM_SHA384", Some(&[Tls13Suite::Aes256Gcm]));
        check(
            "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
            Some(&[Tls13Suite::ChaCha20Poly1305, Tls13Suite::Aes128Gcm]),
        );
        check("unknown", None);
    }
}
