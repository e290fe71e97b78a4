//! The values of one result, and how the statements after it go through them.

use super::values::{Hashes, MOST_VALUES};
use crate::wire::read;

/// Rows that are kept, the first ones.
const MOST_ROWS: usize = 64;
/// Columns of them.
const MOST_COLUMNS: usize = 32;
/// Statements that are followed after a result.
pub(crate) const MOST_CHILDREN: usize = 4;
/// Most executions of a statement that are compared.
const MOST_SEEN: u32 = 64;

/// How a value of a statement goes through a column.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// The row behind the last one that was met.
    next: u16,
    met: u16,
}

/// A statement after a result.
#[derive(Debug)]
struct Child {
    number: u64,
    ways: [[Way; MOST_COLUMNS]; MOST_VALUES],
    last: [Hashes; MOST_VALUES],
    /// Executions with other values than the one before.
    seen: u32,
}

/// Which value of a statement is which column of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// The statement's record.
    pub(crate) child: u64,
    /// The place of its value, from 0.
    pub(crate) value: usize,
    /// The column's name, or its place from 1 where the name is not known.
    pub(crate) column: String,
}

/// What is found out about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Not yet.
    Open,
    /// Its values are those of the rows, one after the other.
    Met(Met),
    /// They are not.
    Other,
}

/// A result and what follows.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) parent: u64,
    names: Vec<String>,
    rows: Vec<[Hashes; MOST_COLUMNS]>,
    children: Vec<Child>,
}

impl Sample {
    /// Of a result that is about to come, and the statements that may go through it.
    pub(crate) fn new(parent: u64, children: impl Iterator<Item = u64>) -> Self {
        let child = |number| Child {
            number,
            ways: Default::default(),
            last: Default::default(),
            seen: 0,
        };
        Self {
            parent,
            names: Vec::new(),
            rows: Vec::new(),
            children: children.take(MOST_CHILDREN).map(child).collect(),
        }
    }

    /// Whether a statement is one that may go through it, and is not judged yet.
    pub(crate) fn follows(&self, number: u64) -> bool {
        self.children.iter().any(|one| one.number == number)
    }

    /// Whether all of them are judged.
    pub(crate) fn is_over(&self) -> bool {
        self.children.is_empty()
    }

    /// The body of a RowDescription.
    pub(crate) fn describe(&mut self, body: &[u8]) {
        let Some((_, mut rest)) = read::short(body) else {
            return;
        };
        self.names.clear();
        while self.names.len() < MOST_COLUMNS
            && let Some((name, after)) = read::text(rest)
        {
            let name = String::from_utf8_lossy(name);
            self.names.push(name.chars().take(63).collect());
            // Its table, place, type, size, modifier and format.
            let Some(after) = after.get(18..) else {
                return;
            };
            rest = after;
        }
    }

    /// The body of a DataRow.
    pub(crate) fn row(&mut self, body: &[u8]) {
        if self.rows.len() >= MOST_ROWS {
            return;
        }
        let mut row = [Hashes::default(); MOST_COLUMNS];
        let Some((count, mut rest)) = read::short(body) else {
            return;
        };
        for value in row.iter_mut().take(usize::try_from(count).unwrap_or(0)) {
            let Some((length, after)) = read::number(rest) else {
                return;
            };
            rest = after;
            if let Ok(length) = usize::try_from(length) {
                let Some(bytes) = rest.get(..length) else {
                    return;
                };
                *value = Hashes::of(bytes);
                rest = &rest[length..];
            }
        }
        self.rows.push(row);
    }

    /// A statement that follows is executed with these values. It is judged after `repeats`
    /// executions that met rows, or when too many did not.
    pub(crate) fn execute(
        &mut self,
        number: u64,
        values: [Hashes; MOST_VALUES],
        repeats: u32,
    ) -> Judged {
        let Some(place) = self.children.iter().position(|one| one.number == number) else {
            return Judged::Open;
        };
        let child = &mut self.children[place];
        if child.last == values {
            // The same again: it tells nothing.
            return Judged::Open;
        }
        child.seen += 1;
        let mut best = (0, 0, 0);
        for (at, value) in values.into_iter().enumerate() {
            let is_new = !value.is_none() && child.last[at] != value;
            for column in 0..MOST_COLUMNS {
                let way = &mut child.ways[at][column];
                if is_new {
                    way.go(&self.rows, column, value);
                }
                best = best.max((u32::from(way.met), MOST_VALUES - at, MOST_COLUMNS - column));
            }
        }
        child.last = values;
        let (met, at, column) = best;
        let (seen, number) = (child.seen, child.number);
        // Four of five.
        if met >= repeats && met * 5 >= seen * 4 {
            self.children.swap_remove(place);
            let column = MOST_COLUMNS - column;
            let name = self.names.get(column).cloned();
            return Judged::Met(Met {
                child: number,
                value: MOST_VALUES - at,
                column: name.unwrap_or_else(|| format!("number {}", column + 1)),
            });
        }
        if seen >= MOST_SEEN || (seen >= 2 * repeats && met * 5 < seen * 4) {
            self.children.swap_remove(place);
            return Judged::Other;
        }
        Judged::Open
    }

    /// The statements that followed often enough to be judged and were not.
    pub(crate) fn unmet(&self, repeats: u32) -> impl Iterator<Item = u64> {
        let others = self.children.iter();
        others
            .filter(move |one| one.seen >= repeats)
            .map(|one| one.number)
    }
}

impl Way {
    /// Goes on to the next row that has the value.
    fn go(&mut self, rows: &[[Hashes; MOST_COLUMNS]], column: usize, value: Hashes) {
        let rest = rows.iter().enumerate().skip(usize::from(self.next));
        let met = rest.into_iter().find(|(_, row)| row[column].meets(value));
        if let Some((place, _)) = met {
            self.next = place as u16 + 1;
            self.met += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<u8> {
        let mut body = (values.len() as i16).to_be_bytes().to_vec();
        for value in values {
            body.extend_from_slice(&(value.len() as i32).to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body
    }

    fn sample(rows: &[&[&str]]) -> Sample {
        let mut sample = Sample::new(1, [2, 3].into_iter());
        let mut names = b"\0\x02".to_vec();
        for name in ["id", "owner"] {
            names.extend_from_slice(name.as_bytes());
            names.extend_from_slice(&[0; 19]);
        }
        sample.describe(&names);
        for values in rows {
            sample.row(&row(values));
        }
        sample
    }

    /// Executions with one value each, and what is found: the column, `other`, or nothing.
    fn check(sample: &mut Sample, values: &[&str], expected: &str) {
        let mut found = String::new();
        for value in values {
            let mut hashes = [Hashes::default(); MOST_VALUES];
            hashes[0] = Hashes::of(value.as_bytes());
            match sample.execute(2, hashes, 5) {
                Judged::Open => {}
                Judged::Met(met) => found.push_str(&met.column),
                Judged::Other => found.push_str("other"),
            }
        }
        assert_eq!(found, expected, "{values:?}");
    }

    fn orders() -> Sample {
        let rows: Vec<[&str; 2]> = vec![
            ["11", "7"],
            ["12", "7"],
            ["13", "8"],
            ["14", "9"],
            ["15", "10"],
            ["16", "12"],
            ["17", "13"],
        ];
        let rows: Vec<&[&str]> = rows.iter().map(|row| &row[..]).collect();
        sample(&rows)
    }

    #[test]
    fn row_after_row_is_met() {
        check(&mut orders(), &["11", "12", "13", "14", "15"], "id");
        check(&mut orders(), &["11", "12", "13", "14"], "");
        // With some left out, and some said twice.
        check(&mut orders(), &["11", "13", "13", "14", "15", "17"], "id");
        // Owners, each once as they are known from then on, or each again.
        check(&mut orders(), &["7", "8", "9", "10", "12"], "owner");
        check(&mut orders(), &["7", "7", "8", "9", "10", "12"], "owner");
        // One that is not of the rows.
        check(&mut orders(), &["11", "99", "12", "13", "14", "15"], "id");
    }

    #[test]
    fn what_is_asked_in_another_order_is_not() {
        // Independent requests that happen to want what a list has shown.
        let any = ["14", "11", "17", "12", "16", "13", "15", "11", "14", "12"];
        check(&mut orders(), &any, "other");
        let foreign = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
        check(&mut orders(), &foreign, "other");
        // The same value again and again, which all rows have.
        let all: Vec<&[&str]> = vec![&["1", "5"]; 20];
        check(&mut sample(&all), &["5"; 30], "");
        check(&mut sample(&[]), &["11", "12", "13", "14", "15"], "");
    }

    #[test]
    fn hostile_messages_are_nothing() {
        let mut sample = orders();
        for bytes in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0\x09x",
            b"\xff\xff",
        ] {
            sample.row(bytes);
            sample.describe(bytes);
        }
        let other = sample.execute(99, Default::default(), 5);
        assert_eq!(other, Judged::Open, "nobody asked about it");
        assert!(sample.follows(2) && !sample.follows(1) && !sample.is_over());
        assert_eq!(sample.unmet(5).count(), 0);
    }
}
