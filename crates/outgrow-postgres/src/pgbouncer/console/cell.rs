//! How values become the cells of a result: all as texts, with the type that drivers are told.

use outgrow_core::WallTime;

use super::super::ini::{LoadBalanceHosts, PoolMode};
use crate::wire::write::Column;

/// `pg_type` of a text.
const TEXT: u32 = 25;
/// `pg_type` of four-byte integers.
const INT4: u32 = 23;
/// `pg_type` of eight-byte integers.
const INT8: u32 = 20;
/// `pg_type` of numerics.
const NUMERIC: u32 = 1700;
/// `pg_type` of byte strings.
const BYTEA: u32 = 17;

/// A kind of row with its columns.
pub trait Row {
    /// The columns.
    fn columns() -> Vec<Column<'static>>;

    /// Writes the cells, one for each column, in their order.
    fn cells(&self, out: &mut CellWriter<'_>);
}

/// A value of a cell.
pub trait Cell {
    /// The number of its type in `pg_type`.
    const TYPE: u32;

    /// Appends it as text; false, and nothing appended, for a null.
    fn append(&self, out: &mut Vec<u8>) -> bool;
}

/// Appends the cells of one row.
pub struct CellWriter<'o> {
    out: &'o mut Vec<u8>,
    count: u16,
}

impl<'o> CellWriter<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, count: 0 }
    }

    /// Appends one.
    pub fn push<C: Cell>(&mut self, cell: &C) {
        let start = self.out.len();
        self.out.extend_from_slice(&(-1_i32).to_be_bytes());
        if cell.append(self.out) {
            let length = (self.out.len() - start - 4) as u32;
            self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        self.count += 1;
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }
}

/// A column for cells of a kind.
pub(super) fn column<C: Cell>(name: &'static str) -> Column<'static> {
    Column {
        name,
        type_oid: C::TYPE,
    }
}

/// A number that drivers are told is a numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Numeric(pub u64);

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    out.extend_from_slice(value.to_string().as_bytes());
    true
}

impl Cell for String {
    const TYPE: u32 = TEXT;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.as_bytes());
        true
    }
}

impl Cell for &'static str {
    const TYPE: u32 = TEXT;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(self.as_bytes());
        true
    }
}

impl Cell for PoolMode {
    const TYPE: u32 = TEXT;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        self.word().append(out)
    }
}

impl Cell for LoadBalanceHosts {
    const TYPE: u32 = TEXT;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        self.word().append(out)
    }
}

impl<C: Cell> Cell for Option<C> {
    const TYPE: u32 = C::TYPE;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|cell| cell.append(out))
    }
}

impl Cell for i32 {
    const TYPE: u32 = INT4;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, self)
    }
}

/// Counts of things there are; none of them is near the limit of the type.
impl Cell for usize {
    const TYPE: u32 = INT4;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, (*self).min(i32::MAX as usize))
    }
}

impl Cell for u16 {
    const TYPE: u32 = INT4;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, self)
    }
}

impl Cell for bool {
    const TYPE: u32 = INT4;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, u8::from(*self))
    }
}

impl Cell for u64 {
    const TYPE: u32 = INT8;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, self)
    }
}

impl Cell for Numeric {
    const TYPE: u32 = NUMERIC;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        display(out, self.0)
    }
}

/// `2026-11-28 21:32:45 UTC`. PgBouncer tells local time.
impl Cell for WallTime {
    const TYPE: u32 = TEXT;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.write_rfc3339(out);
        // Without the fraction of a second and the Z.
        out.truncate(out.len().saturating_sub(5));
        if let Some(between) = out[start..].iter_mut().find(|byte| **byte == b'T') {
            *between = b' ';
        }
        out.extend_from_slice(b" UTC");
        true
    }
}

/// As Postgres writes it: `\x00ff`.
impl Cell for Vec<u8> {
    const TYPE: u32 = BYTEA;

    fn append(&self, out: &mut Vec<u8>) -> bool {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(b"\\x");
        for byte in self {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_texts() {
        fn check<C: Cell>(cell: C, expected: Option<&str>, kind: u32) {
            let mut out = Vec::new();
            let is_some = cell.append(&mut out);
            let found = is_some.then(|| String::from_utf8(out).expect("UTF-8"));
            assert_eq!((found.as_deref(), C::TYPE), (expected, kind));
        }
        check(String::from("a"), Some("a"), 25);
        check(None::<String>, None, 25);
        check(Some(PoolMode::Transaction), Some("transaction"), 25);
        check(-1_i32, Some("-1"), 23);
        check(usize::MAX, Some("2147483647"), 23);
        check(true, Some("1"), 23);
        check(u64::MAX, Some("18446744073709551615"), 20);
        check(Numeric(7), Some("7"), 1700);
        check(vec![0, 255, 16], Some("\\x00ff10"), 17);
        let time = WallTime(1_795_901_565_123_456_789);
        check(time, Some("2026-11-28 21:32:45 UTC"), 25);
    }
}
