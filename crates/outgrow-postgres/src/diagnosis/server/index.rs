//! Missing indexes: whether an index would spare a statement most of what it reads of a table, and
//! which one. By the server's own statistics; what they do not tell is not guessed.

use std::collections::BTreeSet;

use super::explain::Scan;
use super::other::{converted, in_document, searched};
use super::predicate::{Column as Name, Condition, Key, Test, conditions, sort_key};
use super::table::Table;

/// By how much an index must be better to be worth its keeping.
const GAIN: f64 = 5.0;
/// The same where the server has no statistics of what it is on, and assumes that it tells little.
const ASSUMED_GAIN: f64 = 2.0;
/// Rows that are found from which on a further column is worth its place in an index.
const FEW_FOUND: f64 = 20.0;
/// Most columns of an index that is proposed.
const MOST_KEYS: usize = 3;
/// What the server assumes of the values of an expression.
pub(super) const USUAL_DISTINCT: f64 = 200.0;
/// What would help.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// What is wrong, in a line.
    pub why: String,
    /// The statement that makes it better; none where the statement itself must be written otherwise.
    pub create: Option<String>,
    /// What to do, in words.
    pub what: String,
    /// Rows that are wanted of the table.
    pub wanted: f64,
    /// What reading costs with it, in the server's units, by its statistics.
    pub cost: f64,
    /// Whether that is by an assumption, since there are no statistics of an expression.
    pub is_assumed: bool,
}

/// What would spare a scan most of its work; none where nothing is sure to.
pub fn advise(scan: &Scan, table: &Table) -> Option<Advice> {
    if table.is_small() {
        return None;
    }
    let mut all = conditions(scan.filter.as_deref().unwrap_or_default(), &scan.alias);
    let join = scan.join.as_ref();
    let joined = join.map(|join| conditions(&join.condition, &scan.alias));
    let lookups = join.map_or(1.0, |join| join.other_rows.max(1.0));
    let has_join = joined.as_ref().is_some_and(|joined| !joined.is_empty());
    all.extend(joined.into_iter().flatten());
    let found = ordered(scan, table, &all, if has_join { lookups } else { 1.0 })
        .or_else(|| converted(scan, table, &all))
        .or_else(|| searched(scan, table, &all))
        .or_else(|| in_document(table, &all));
    let gain = |advice: &Advice| match advice.is_assumed {
        true => ASSUMED_GAIN,
        false => GAIN,
    };
    found.filter(|advice| advice.cost * gain(advice) < scan.cost)
}

/// What is called in the conditions and sorts of a scan, of which it must be known whether it always
/// gives the same for the same.
pub fn calls(scan: &Scan) -> BTreeSet<String> {
    let filter = scan.filter.as_deref().unwrap_or_default();
    let join = scan.join.as_ref().map_or("", |join| &join.condition);
    let all = [filter, join].map(|text| conditions(text, &scan.alias));
    let keys = all.into_iter().flatten().map(|one| one.key);
    let sorts = scan.sort.iter().flat_map(|sort| &sort.keys);
    let sorts = sorts.filter_map(|key| Some(sort_key(key, &scan.alias)?.0));
    let calls = keys.chain(sorts).flat_map(|key| match key {
        Key::Expression { calls, .. } => calls,
        _ => Vec::new(),
    });
    let is_name = |call: &String| call.chars().all(|one| one.is_alphanumeric() || one == '_');
    calls.filter(is_name).collect()
}

/// A column or expression of an index that is thought of.
struct Part {
    /// As the definition of the index writes it.
    written: String,
    /// What is shown of the condition.
    shown: String,
    /// The share of rows that have the value.
    share: f64,
    /// Whether that is assumed.
    is_assumed: bool,
}

/// An index that is in order: those columns first that must have a value, then what is in a range or
/// sorted.
fn ordered(scan: &Scan, table: &Table, all: &[Condition], lookups: f64) -> Option<Advice> {
    let mut equal = equal_parts(table, all)?;
    equal.sort_by(|one, other| one.share.total_cmp(&other.share));
    let mut keys: Vec<Part> = Vec::new();
    let mut found = table.rows;
    for part in equal {
        let is_worth = keys.is_empty() || (found > FEW_FOUND && part.share <= 0.5);
        let is_new = keys.iter().all(|known| known.written != part.written);
        if is_worth && is_new && keys.len() < MOST_KEYS {
            found *= part.share;
            keys.push(part);
        }
    }
    // A column that has few values is no good alone.
    let mut read = found * lookups;
    let mut is_sorted = false;
    if let Some(part) = sort_part(scan, table, lookups)
        && let Some(sort) = &scan.sort
    {
        // Rows that the filter leaves out are read on the way.
        let kept = (scan.rows / found).clamp(1e-6, 1.0);
        let wanted = (sort.limit / kept).min(found);
        if wanted < read {
            read = wanted;
            keys.push(part);
            is_sorted = true;
        }
    }
    if !is_sorted
        && found > FEW_FOUND
        && keys.len() < MOST_KEYS
        && let Some(part) = range_part(scan, table, all, found, lookups)
    {
        read = found * part.share * lookups;
        keys.push(part);
    }
    let written: Vec<&str> = keys.iter().map(|key| key.written.as_str()).collect();
    let shown: Vec<&str> = keys.iter().map(|key| key.shown.as_str()).collect();
    if keys.is_empty() {
        return None;
    }
    let is_assumed = keys.iter().any(|key| key.is_assumed);
    match table.existing(&written) {
        Some(index) if !index.is_valid => {
            return Some(Advice {
                why: format!("the index {} is not valid: making it failed", index.name),
                create: None,
                what: format!(
                    "Make the index anew: REINDEX INDEX CONCURRENTLY {} (before 12: DROP INDEX \
                     CONCURRENTLY, and create it again).",
                    index.name
                ),
                wanted: read,
                cost: table.cost(read, lookups),
                is_assumed,
            });
        }
        // The server knows of it and takes the table, or it may be used with other values.
        Some(_) => return None,
        None => {}
    }
    let on = format!("{} ({})", table.name, written.join(", "));
    Some(Advice {
        why: format!("no index is on what it looks for: {}", shown.join(", ")),
        create: Some(format!("CREATE INDEX CONCURRENTLY ON {on};")),
        what: if table.is_partition {
            format!(
                "{} is a part of a partitioned table: CREATE INDEX ON ONLY the whole, then on each \
                 part CONCURRENTLY, and ALTER INDEX … ATTACH PARTITION each.",
                table.name
            )
        } else {
            String::new()
        },
        wanted: read,
        cost: table.cost(read, lookups),
        is_assumed,
    })
}

/// What must have a value, or one of a list. None where the server has no statistics of a column: then
/// nothing can be said.
fn equal_parts(table: &Table, all: &[Condition]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for condition in all {
        let (values, test) = match condition.test {
            Test::Equal => (1.0, "= …"),
            Test::Member(count) => (count, "in a list"),
            Test::Null => (1.0, "is null"),
            _ => continue,
        };
        let Some(written) = indexable(table, &condition.key) else {
            continue;
        };
        let share = match &condition.key {
            Key::Column(name) | Key::Converted { column: name, .. } => {
                let column = table.columns.get(&name.name)?;
                if condition.test == Test::Null {
                    column.distinct?;
                    column.nulls
                } else {
                    (1.0 - column.nulls) * values / column.values(table.rows)?
                }
            }
            // What changes the case of texts hardly makes two the same.
            Key::Expression { calls, columns, .. } if is_case(calls) => {
                let column = table.columns.get(&columns.first()?.name)?;
                (1.0 - column.nulls) * values / column.values(table.rows)?
            }
            Key::Expression { .. } => values / USUAL_DISTINCT,
        };
        let is_assumed = match &condition.key {
            Key::Expression { calls, .. } => !is_case(calls),
            _ => false,
        };
        parts.push(Part {
            shown: format!("{written} {test}"),
            written,
            share: share.clamp(1.0 / table.rows, 1.0),
            is_assumed,
        });
    }
    Some(parts)
}

fn is_case(calls: &[String]) -> bool {
    let is_case = |call: &String| matches!(call.as_str(), "lower" | "upper" | "::");
    calls.iter().all(is_case)
}

/// What is in a range, or begins with something. How many rows that are is by the server's estimate of
/// all conditions together.
fn range_part(
    scan: &Scan,
    table: &Table,
    all: &[Condition],
    found: f64,
    lookups: f64,
) -> Option<Part> {
    let is_range = |one: &&Condition| matches!(one.test, Test::Range | Test::Prefix);
    let range = all.iter().find(is_range)?;
    let mut written = indexable(table, &range.key)?;
    if range.test == Test::Prefix && !is_bytewise(table, &range.key) {
        written.push_str(" text_pattern_ops");
    }
    let is_joined = scan.join.is_some() && lookups > 1.0;
    let share = if is_joined { 1.0 } else { scan.rows / found };
    Some(Part {
        shown: match range.test {
            Test::Prefix => format!("{written} with a beginning"),
            _ => format!("{written} in a range"),
        },
        written,
        share: share.clamp(1.0 / table.rows, 1.0),
        is_assumed: false,
    })
}

fn is_bytewise(table: &Table, key: &Key) -> bool {
    match key {
        Key::Column(name) | Key::Converted { column: name, .. } => table
            .columns
            .get(&name.name)
            .is_some_and(|one| one.is_bytewise),
        Key::Expression { .. } => false,
    }
}

/// What it is sorted by, if an index can give that order.
fn sort_part(scan: &Scan, table: &Table, lookups: f64) -> Option<Part> {
    let sort = scan.sort.as_ref().filter(|_| lookups <= 1.0)?;
    let keys = sort.keys.iter().map(|key| sort_key(key, &scan.alias));
    let keys: Option<Vec<(Key, String)>> = keys.collect();
    let keys = keys.filter(|keys| (1..=MOST_KEYS).contains(&keys.len()))?;
    // An index is read from either end: where all go the same way the usual one will do.
    let orders: BTreeSet<&str> = keys.iter().map(|(_, order)| order.as_str()).collect();
    let is_usual = orders.len() == 1 && orders.iter().all(|order| !order.contains("NULLS"));
    let mut written = Vec::new();
    for (key, order) in &keys {
        let key = indexable(table, key)?;
        written.push(match order.as_str() {
            "" => key,
            _ if is_usual => key,
            order => format!("{key} {order}"),
        });
    }
    let written = written.join(", ");
    Some(Part {
        shown: format!("sorted by {written}, of which {:.0} are wanted", sort.limit),
        written,
        share: 1.0,
        is_assumed: false,
    })
}

/// How an index is defined on something; none where there can be none.
fn indexable(table: &Table, key: &Key) -> Option<String> {
    match key {
        Key::Column(name) => Some(name.written.clone()),
        // Which is the same for the server.
        Key::Converted { column, to } if is_relabelled(table, column, to) => {
            Some(column.written.clone())
        }
        Key::Converted { .. } => None,
        Key::Expression {
            text,
            calls,
            columns,
        } => {
            let is_steady = |call: &String| match call.as_str() {
                "->>" | "->" | "#>>" | "#>" => true,
                "::" => columns.iter().all(|column| is_text(table, column)),
                call => table.immutable.contains(call),
            };
            let is_document = calls.iter().any(|call| call.contains('>'));
            let is_steady = calls.iter().all(|call| {
                // The key of a document is written with its type.
                is_steady(call) || (call == "::" && is_document)
            });
            if text.contains('$') {
                return None;
            }
            let is_call = text.ends_with(')') && !calls.iter().any(|call| call.contains('>'));
            match (is_steady && columns.len() == 1, is_call) {
                (false, _) => None,
                (true, true) => Some(text.clone()),
                (true, false) => Some(format!("({text})")),
            }
        }
    }
}

fn is_text(table: &Table, column: &Name) -> bool {
    let kind = table.columns.get(&column.name).map(|one| one.kind.as_str());
    kind.is_some_and(|kind| kind == "text" || kind.starts_with("character varying"))
}

/// Whether a type is only another name for a column's.
pub(super) fn is_relabelled(table: &Table, column: &Name, to: &str) -> bool {
    is_text(table, column) && matches!(to, "text" | "character varying")
}

#[cfg(test)]
mod tests;
