//! The one query that does the work of many: a statement without its values, rewritten to take all of
//! them at once.

use crate::sql::{Lexer, Lexing, Token, TokenKind};

/// A statement rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The text.
    pub(crate) sql: String,
    /// The column that tells whose a row is; none where the text puts the value into each row.
    pub(crate) column: Option<String>,
}

/// What makes a statement one whose rows cannot be divided afterwards.
const AGGREGATES: [&str; 12] = [
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "json_agg",
    "jsonb_agg",
    "max",
    "min",
    "string_agg",
    "sum",
];

/// Rewrites a normalised text to take an array for parameter `$number`, where that is compared with a
/// column. None where it is not, and for what locks rows or was cut.
pub(crate) fn batched(normalised: &str, number: usize) -> Option<Batch> {
    let text = normalised.as_bytes();
    let tokens: Vec<Token> = Lexer::new(text, Lexing::default()).collect();
    if normalised.ends_with('…') || normalised.contains("/*, ... */") {
        return None;
    }
    let word = |token: &Token| String::from_utf8_lossy(token.of(text)).to_ascii_lowercase();
    let words: Vec<String> = tokens.iter().map(word).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    // FOR UPDATE and the like.
    if words
        .windows(2)
        .any(|two| two[0] == "for" && two[1] != "select")
        || has(";")
    {
        return None;
    }
    let parameter = format!("${number}");
    let place = compared(&words, &tokens, &parameter)?;
    let column = place.column.clone().map(|at| tokens[at].of(text));
    let column = String::from_utf8_lossy(&column.collect::<Vec<_>>().concat()).into_owned();
    let of = |from: usize, to: usize| normalised.get(from..to).unwrap_or_default();
    let start = tokens[place.start].start as usize;
    let end = tokens[place.end].end as usize;
    let calls = words
        .windows(2)
        .any(|two| two[1] == "(" && AGGREGATES.contains(&&*two[0]));
    let is_cut_by_rows = (has("limit") || has("fetch")) && has("order") || has("offset");
    if calls || has("group") || has("distinct") || has("union") || is_cut_by_rows {
        let inner = format!("{}= each.value{}", of(0, start), of(end, text.len()));
        let cast = place
            .cast
            .map_or(String::new(), |cast| format!("::{cast}[]"));
        return Some(Batch {
            sql: format!(
                "SELECT each.value, one.* FROM unnest({parameter}{cast}) AS each(value) CROSS JOIN \
                 LATERAL ({inner}) AS one"
            ),
            column: None,
        });
    }
    let cast = place
        .cast
        .map_or(String::new(), |cast| format!("::{cast}[]"));
    let mut rest = of(end, text.len()).to_owned();
    // A guard against more than one row for one value.
    if let Some(limit) = words.iter().rposition(|word| word == "limit")
        && limit + 2 == words.len()
        && tokens[limit].start as usize >= end
    {
        rest.truncate(tokens[limit].start as usize - end);
    }
    let sql = format!("{}= ANY({parameter}{cast}){rest}", of(0, start));
    Some(Batch {
        sql: sql.trim_end().to_owned(),
        column: Some(column),
    })
}

/// Where a parameter is compared with a column.
struct Compared {
    /// The tokens of the column's name.
    column: std::ops::Range<usize>,
    /// The first token that is replaced: `=` or `IN`.
    start: usize,
    /// The last one.
    end: usize,
    /// What the parameter is cast to.
    cast: Option<String>,
}

fn compared(words: &[String], tokens: &[Token], parameter: &str) -> Option<Compared> {
    let at = words.iter().position(|word| word == parameter)?;
    // Said twice it would have to be replaced twice.
    if words.iter().skip(at + 1).any(|word| word == parameter) {
        return None;
    }
    let word = |at: usize| words.get(at).map_or("", |word| word.as_str());
    let before = |back: usize| at.checked_sub(back).map_or("", word);
    let (start, mut end) = match (before(2), before(1)) {
        (_, "=") => (at - 1, at),
        ("in", "(") if word(at + 1) == ")" => (at - 2, at + 1),
        _ => return None,
    };
    let mut cast = None;
    if word(at + 1) == "::" && end == at {
        tokens.get(at + 2).filter(|token| token.kind.is_name())?;
        cast = Some(words[at + 2].clone());
        end = at + 2;
    }
    let mut first = start.checked_sub(1)?;
    if !tokens[first].kind.is_name() {
        return None;
    }
    while first >= 2 && tokens[first - 1].kind == TokenKind::Dot && tokens[first - 2].kind.is_name()
    {
        first -= 2;
    }
    // Of `a OR b = $1` no more is known than of `b = $1`, of `NOT b = $1` nothing at all.
    if words.iter().any(|word| word == "or") || word(first.checked_sub(1)?) == "not" {
        return None;
    }
    Some(Compared {
        column: first..start,
        start,
        end,
        cast,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, number: usize, expected: Option<(&str, Option<&str>)>) {
        let batch = batched(text, number);
        let told = batch.as_ref().map(|one| (&*one.sql, one.column.as_deref()));
        assert_eq!(told, expected, "{text}");
    }

    #[test]
    fn statements_take_all_values_at_once() {
        check(
            "SELECT * FROM items WHERE order_id = $1",
            1,
            Some((
                "SELECT * FROM items WHERE order_id = ANY($1)",
                Some("order_id"),
            )),
        );
        check(
            "SELECT i.\"id\" FROM items i WHERE i.\"order_id\" = $2 AND i.shop = $1 ORDER BY i.id",
            2,
            Some((
                "SELECT i.\"id\" FROM items i WHERE i.\"order_id\" = ANY($2) AND i.shop = $1 \
                 ORDER BY i.id",
                Some("i.\"order_id\""),
            )),
        );
        check(
            "SELECT a FROM t WHERE id = $1::int4",
            1,
            Some(("SELECT a FROM t WHERE id = ANY($1::int4[])", Some("id"))),
        );
        check(
            "SELECT a FROM t WHERE id IN ($1) AND b",
            1,
            Some(("SELECT a FROM t WHERE id = ANY($1) AND b", Some("id"))),
        );
        // Django and Rails ask for one row more, or for one.
        check(
            "SELECT a FROM t WHERE t.id = $1 LIMIT $2",
            1,
            Some(("SELECT a FROM t WHERE t.id = ANY($1)", Some("t.id"))),
        );
    }

    #[test]
    fn what_is_for_each_value_is_asked_for_each() {
        check(
            "SELECT count(*) FROM items WHERE order_id = $1",
            1,
            Some((
                "SELECT each.value, one.* FROM unnest($1) AS each(value) CROSS JOIN LATERAL \
                 (SELECT count(*) FROM items WHERE order_id = each.value) AS one",
                None,
            )),
        );
        check(
            "SELECT a FROM t WHERE b = $1::uuid ORDER BY c LIMIT $2",
            1,
            Some((
                "SELECT each.value, one.* FROM unnest($1::uuid[]) AS each(value) CROSS JOIN \
                 LATERAL (SELECT a FROM t WHERE b = each.value ORDER BY c LIMIT $2) AS one",
                None,
            )),
        );
    }

    #[test]
    fn what_cannot_be_is_left() {
        check("SELECT * FROM items WHERE order_id > $1", 1, None);
        check(
            "SELECT * FROM items WHERE order_id = $1 FOR UPDATE",
            1,
            None,
        );
        check("SELECT * FROM items WHERE order_id = $1", 2, None);
        check("SELECT * FROM items WHERE a = $1 OR b = $2", 1, None);
        check("SELECT * FROM items WHERE NOT a = $1", 1, None);
        check("SELECT * FROM items WHERE a = $1 AND b = $1", 1, None);
        check(
            "SELECT * FROM t WHERE a IN ($1 /*, ... */) AND b = $2",
            2,
            None,
        );
        check("SELECT * FROM t WHERE a = $1 …", 1, None);
        check("SELECT process($1)", 1, None);
        check("= $1", 1, None);
        check("$1", 1, None);
        check("", 1, None);
    }
}
