//! Where no usual index helps: columns that are converted, parts of texts, values in documents.

use super::explain::Scan;
use super::index::{Advice, USUAL_DISTINCT, is_relabelled};
use super::predicate::{Condition, Key, Test};
use super::table::{Index, Table};

/// The share of a table that a text search may find to be worth an index.
const FEW: f64 = 0.05;

/// A column that has an index, or could have one, but is converted before it is compared.
pub(super) fn converted(scan: &Scan, table: &Table, all: &[Condition]) -> Option<Advice> {
    let is_compared = |one: &&Condition| {
        matches!(one.test, Test::Equal | Test::Member(_) | Test::Range)
            && matches!(one.key, Key::Converted { .. })
    };
    let condition = all.iter().find(is_compared)?;
    let Key::Converted { column, to } = &condition.key else {
        return None;
    };
    let kind = &table.columns.get(&column.name)?.kind;
    let wanted = scan.rows;
    if wanted > table.rows * FEW {
        return None;
    }
    let instead = if to == "date" {
        format!("{0} >= the day AND {0} < the day after it", column.written)
    } else {
        format!(
            "compare {} with a value of its own type, {kind}",
            column.written
        )
    };
    Some(Advice {
        why: format!(
            "{} is {kind} and is converted to {to} for each row, which keeps an index on it from \
             being used",
            column.written
        ),
        create: None,
        what: format!("Write the statement so that the column stands alone: {instead}."),
        wanted,
        cost: table.cost(wanted, 1.0),
        is_assumed: false,
    })
}

/// A search in texts, documents or lists, which needs an index of another kind.
pub(super) fn searched(scan: &Scan, table: &Table, all: &[Condition]) -> Option<Advice> {
    let wanted = scan.rows;
    if wanted > table.rows * FEW {
        return None;
    }
    let found = all.iter().find_map(|one| match (&one.key, &one.test) {
        (Key::Column(column), Test::Inside | Test::Pattern) => Some((column, &one.test)),
        (Key::Converted { column, to }, Test::Inside | Test::Pattern)
            if is_relabelled(table, column, to) =>
        {
            Some((column, &one.test))
        }
        (Key::Column(column), Test::Holds(_)) => Some((column, &one.test)),
        _ => None,
    });
    let (column, test) = found?;
    let has_one = table.indexes.iter().any(|index| {
        matches!(index.method.as_str(), "gin" | "gist") && index.keys.contains(&column.written)
    });
    if has_one {
        return None;
    }
    let name = &column.written;
    let (why, on, what) = match test {
        Test::Holds(operator) => (
            format!("no GIN index is on {name}, of which it asks {operator}"),
            format!("gin ({name})"),
            String::new(),
        ),
        test => (
            format!("it looks for a part of {name}, for which no usual index helps"),
            format!("gin ({name} gin_trgm_ops)"),
            format!(
                "With CREATE EXTENSION pg_trgm first.{}",
                if *test == Test::Pattern {
                    " If its patterns have a fixed beginning, a usual index with text_pattern_ops \
                     will do."
                } else {
                    ""
                }
            ),
        ),
    };
    Some(Advice {
        why,
        create: Some(format!(
            "CREATE INDEX CONCURRENTLY ON {} USING {on};",
            table.name
        )),
        what,
        wanted,
        cost: table.cost(wanted, 1.0),
        is_assumed: false,
    })
}

/// A value in a document, by a key that the plan does not tell.
pub(super) fn in_document(table: &Table, all: &[Condition]) -> Option<Advice> {
    let found = all.iter().find_map(|one| match (&one.key, &one.test) {
        (
            Key::Expression {
                text,
                calls,
                columns,
            },
            Test::Equal,
        ) if calls.iter().any(|call| call == "->>") && text.contains('$') => columns.first(),
        _ => None,
    });
    let name = &found?.written;
    let begin = format!("{name} ->");
    let has_one = |index: &Index| {
        index
            .keys
            .iter()
            .any(|key| key.contains(&begin) || key == name)
    };
    if table.indexes.iter().any(has_one) {
        return None;
    }
    let wanted = table.rows / USUAL_DISTINCT;
    Some(Advice {
        why: format!("no index is on a value in {name}, by which it looks for rows"),
        create: None,
        what: format!(
            "CREATE INDEX CONCURRENTLY ON {} (({name} ->> 'key')); with the key that the statement \
             has.",
            table.name
        ),
        wanted,
        cost: table.cost(wanted, 1.0),
        is_assumed: true,
    })
}
