//! From a request's path to the path of a file below the directory. Pure.

/// The longest name of a file (Linux).
const NAME_BYTES: usize = 255;
/// The longest path that is looked up, below what Linux takes.
const PATH_BYTES: usize = 3 * 1_024;

/// Where a file would lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The path below the directory, without a slash at either end; empty for the directory itself.
    pub(crate) path: Vec<u8>,
    /// Whether the request's path ended in a slash.
    pub(crate) is_directory: bool,
}

impl Place {
    /// Where `path` leads, which begins with a slash and may have escapes; none where that can be
    /// no file: names with a slash or a NUL in them, dot segments, and names that begin with a dot
    /// unless `hidden` ones are shown.
    pub(crate) fn of(path: &[u8], hidden: bool) -> Option<Self> {
        let rest = path.strip_prefix(b"/")?;
        let mut found = Vec::with_capacity(rest.len());
        let mut name = Vec::new();
        for segment in rest.split(|&byte| byte == b'/') {
            if segment.is_empty() {
                continue;
            }
            name.clear();
            decode(segment, &mut name)?;
            let is_shown = hidden || name.first() != Some(&b'.') || name == b".well-known";
            let is_name =
                name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
            if !is_shown || !is_name || name.len() > NAME_BYTES {
                return None;
            }
            if !found.is_empty() {
                found.push(b'/');
            }
            found.extend_from_slice(&name);
        }
        if found.len() > PATH_BYTES {
            return None;
        }
        let is_directory = rest.is_empty() || rest.ends_with(b"/");
        Some(Self {
            path: found,
            is_directory,
        })
    }

    /// Whether the last name has a dot: it means a certain file rather than a page.
    pub(crate) fn has_extension(&self) -> bool {
        !self.is_directory && last_name(&self.path).contains(&b'.')
    }
}

/// What follows the last slash.
pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// What may stand in a path as it is and is often escaped nevertheless (RFC 3986 section 3.3: pchar
/// without what is unreserved, whose escapes are undone before routing).
const NEEDLESS: &[u8] = b"!$&'()*+,;=:@";

/// The byte that an escape at the beginning of `path` stands for, if it needs none.
fn needless(path: &[u8]) -> Option<u8> {
    let digits = path.strip_prefix(b"%")?.get(..2)?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
    NEEDLESS.contains(&byte).then_some(byte)
}

/// Whether a path has escapes that it does not need. Routes are matched without undoing them, files
/// are found by what they mean: a route for a certain file must not be got around by writing its name
/// in another way.
pub(super) fn is_overescaped(path: &[u8]) -> bool {
    (0..path.len()).any(|at| needless(&path[at..]).is_some())
}

/// The path without them.
pub(super) fn without_needless_escapes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match needless(&path[at..]) {
            Some(plain) => {
                out.push(plain);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn decode(segment: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    while at < segment.len() {
        if segment[at] != b'%' {
            out.push(segment[at]);
            at += 1;
            continue;
        }
        let digits = segment.get(at + 1..at + 3)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(digits[0])? << 4 | digit(digits[1])?;
        out.push(value as u8);
        at += 3;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use outgrow_core::Random;

    use super::*;

    #[test]
    fn paths_become_places() {
        let check = |path: &str, expected: Option<(&str, bool)>| {
            let place = Place::of(path.as_bytes(), false);
            let place = place.map(|place| {
                (
                    String::from_utf8(place.path).expect("text"),
                    place.is_directory,
                )
            });
            let expected = expected.map(|(path, is)| (path.to_owned(), is));
            assert_eq!(place, expected, "{path}");
        };
        check("/", Some(("", true)));
        check("/a/b.css", Some(("a/b.css", false)));
        check("/a/b/", Some(("a/b", true)));
        check("/a%20b/%C3%A9", Some(("a b/é", false)));
        check("/a%5Cb\\c", Some(("a\\b\\c", false)));
        check("//a//b", Some(("a/b", false)));
        check("/.well-known/x", Some((".well-known/x", false)));
        for path in [
            "",
            "a",
            "*",
            "/..",
            "/a/../b",
            "/%2E%2E/b",
            "/%2e%2e",
            "/.",
            "/a/%2E",
            "/a%2Fb",
            "/a%2f..%2fb",
            "/%00",
            "/a%",
            "/a%2",
            "/a%zz",
            "/.git/config",
            "/a/.env",
            "/%2Egit",
            "/a%0",
        ] {
            check(path, None);
        }
        let long = format!("/{}", "a".repeat(256));
        check(&long, None);
        check(&"/abcdefg".repeat(400), None);
        assert!(Place::of(b"/.git/config", true).is_some());
        assert!(Place::of(b"/..", true).is_none());
    }

    #[test]
    fn a_name_has_one_form() {
        for (path, expected) in [
            ("/%40internal/a%2Bb", "/@internal/a+b"),
            ("/a%3d%3D", "/a=="),
            ("/a%2540", "/a%2540"),
            ("/a%2Fb%20c%C3%A9", "/a%2Fb%20c%C3%A9"),
            ("/%4", "/%4"),
            ("/", "/"),
        ] {
            let found = without_needless_escapes(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), expected);
            assert_eq!(is_overescaped(path.as_bytes()), path != expected, "{path}");
            assert!(!is_overescaped(&found), "it ends");
        }
    }

    /// Whatever comes, what is found stays below the directory.
    #[test]
    fn anything_may_come() {
        const PARTS: [&[u8]; 14] = [
            b"/", b".", b"..", b"%2e", b"%2F", b"%5c", b"\\", b"a", b"%", b"%00", b"~", b"//",
            b"\xff", b"%25",
        ];
        for seed in 0..50_000 {
            let mut random = Random::from_seed(seed);
            let mut path = b"/".to_vec();
            for _ in 0..random.next_u64() % 10 {
                path.extend_from_slice(PARTS[(random.next_u64() % 14) as usize]);
            }
            let hidden = random.next_u64().is_multiple_of(2);
            let Some(place) = Place::of(&path, hidden) else {
                continue;
            };
            let wrong = |name: &[u8]| {
                name.is_empty() || name == b"." || name == b".." || (name[0] == b'.' && !hidden)
            };
            let any = !place.path.is_empty() && place.path.split(|&byte| byte == b'/').any(wrong);
            assert!(
                !any && !place.path.contains(&0),
                "seed {seed}: {}",
                path.escape_ascii()
            );
        }
    }
}
