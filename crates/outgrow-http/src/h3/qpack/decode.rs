//! Field sections as they arrive (RFC 9204 section 4.5).

use super::static_table::TABLE;
use super::{huffman, integer};

/// Why a field section cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::h3) enum Broken<E> {
    /// It is no field section, or needs a table that there is not: the connection has to end.
    Coding,
    /// The one who takes the fields wants no more.
    Stopped(E),
}

/// Gives `field` each name and value, in their order.
pub(in crate::h3) fn decode<E>(
    section: &[u8],
    mut field: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Broken<E>> {
    let mut reader = Reader(section);
    if reader.integer(8)? != 0 {
        // It refers to the dynamic table.
        return Err(Broken::Coding);
    }
    // Without references to the table the base means nothing, but it is never below zero (RFC 9204
    // section 4.5.1.2).
    let is_negative = reader.first()? & 0x80 != 0;
    reader.integer(7)?;
    if is_negative {
        return Err(Broken::Coding);
    }
    let mut name = Vec::new();
    let mut value = Vec::new();
    while let Ok(first) = reader.first::<E>() {
        value.clear();
        let taken = match first {
            // Both from the static table.
            0xc0.. => {
                let (name, value) = entry(reader.integer(6)?)?;
                field(name.as_bytes(), value.as_bytes())
            }
            // The name from the static table.
            0x50..=0x5f | 0x70..=0x7f => {
                let (name, _) = entry(reader.integer(4)?)?;
                reader.string(7, &mut value)?;
                field(name.as_bytes(), &value)
            }
            // Both as they are.
            0x20..=0x3f => {
                name.clear();
                reader.string(3, &mut name)?;
                reader.string(7, &mut value)?;
                field(&name, &value)
            }
            // The dynamic table.
            _ => return Err(Broken::Coding),
        };
        taken.map_err(Broken::Stopped)?;
    }
    Ok(())
}

fn entry<E>(index: u64) -> Result<(&'static str, &'static str), Broken<E>> {
    let index = usize::try_from(index).map_err(|_| Broken::Coding)?;
    TABLE.get(index).copied().ok_or(Broken::Coding)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn first<E>(&self) -> Result<u8, Broken<E>> {
        self.0.first().copied().ok_or(Broken::Coding)
    }

    fn integer<E>(&mut self, bits: u32) -> Result<u64, Broken<E>> {
        let (value, length) = integer::read(self.0, bits).ok_or(Broken::Coding)?;
        self.0 = &self.0[length..];
        Ok(value)
    }

    /// A string whose length has a prefix of `bits` bits, below the bit that says how it is coded.
    fn string<E>(&mut self, bits: u32, out: &mut Vec<u8>) -> Result<(), Broken<E>> {
        let is_huffman = self.first()? & 1 << bits != 0;
        let length = self.integer(bits)?;
        let length = usize::try_from(length).map_err(|_| Broken::Coding)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Broken::Coding)?;
        self.0 = rest;
        if !is_huffman {
            out.extend_from_slice(text);
            return Ok(());
        }
        match huffman::decode(text, out) {
            true => Ok(()),
            false => Err(Broken::Coding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(section: &[u8]) -> Option<Vec<(String, String)>> {
        let mut all = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let read = decode(section, |name, value| {
            all.push((text(name), text(value)));
            Ok::<_, ()>(())
        });
        read.is_ok().then_some(all)
    }

    fn check(section: &[u8], expected: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let expected = expected.iter().map(owned).collect();
        assert_eq!(fields(section), Some(expected), "{section:x?}");
    }

    #[test]
    fn each_way_to_say_a_field() {
        check(&[0, 0], &[]);
        check(&[0, 0, 0xd1], &[(":method", "GET")]);
        // RFC 9204 appendix B.1.
        check(b"\x00\x00\x51\x0b/index.html", &[(":path", "/index.html")]);
        check(b"\x00\x00\x23x-a\x01b", &[("x-a", "b")]);
        // `never indexed` means nothing here.
        check(b"\x00\x00\x71\x01/", &[(":path", "/")]);
        check(b"\x00\x00\x33x-a\x00", &[("x-a", "")]);
        // With Huffman's code.
        check(
            b"\x00\x00\x51\x82\x64\x02\x2a\x64\x02\x01b",
            &[(":path", "302"), ("302", "b")],
        );
    }

    #[test]
    fn a_base_that_nothing_refers_to_means_nothing() {
        assert_eq!(fields(b"\x00\x05"), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_field_section_is_refused() {
        for section in [
            &b""[..],
            b"\x00",
            // A required insert count, a negative base.
            b"\x01\x00",
            b"\x00\x80",
            // An index that the static table has not.
            b"\x00\x00\xff\x24",
            // The dynamic table: indexed, by name, beyond the base.
            b"\x00\x00\x80",
            b"\x00\x00\x40\x00",
            b"\x00\x00\x10",
            b"\x00\x00\x00\x00",
            // Cut off.
            b"\x00\x00\x51\x0b/index",
            b"\x00\x00\x51",
            b"\x00\x00\x23x-",
            b"\x00\x00\x23x-a",
        ] {
            assert_eq!(fields(section), None, "{section:x?}");
        }
    }

    #[test]
    fn who_takes_fields_may_stop() {
        let stopped = decode(&[0, 0, 0xd1, 0xd1], |_, _| Err(7));
        assert_eq!(stopped, Err(Broken::Stopped(7)));
    }
}
