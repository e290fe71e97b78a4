//! Conditions on the rows of a table, as the server writes them in plans (`Filter`, `Hash Cond`,
//! `Sort Key`): which column, compared how. Every comparison there is in parentheses and every column
//! behind its table's alias (`EXPLAIN (VERBOSE)`), so tokens and depth tell all that is needed. What is
//! not understood is [`Test::Other`], for which nothing is proposed.

use crate::sql::lexer::{Lexer, Lexing, Token, TokenKind, string_value};

/// Most tokens of a condition that are looked at.
const MOST_TOKENS: usize = 4_096;
/// Elements of a list whose length is not known: what the server assumes.
const USUAL_LIST: f64 = 10.0;

/// A condition on rows of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is compared.
    pub key: Key,
    /// How.
    pub test: Test,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A column.
    Column(Column),
    /// A column, as another type.
    Converted {
        /// The column.
        column: Column,
        /// The type.
        to: String,
    },
    /// More than a column.
    Expression {
        /// As an index would be defined on it, without parentheses around all of it.
        text: String,
        /// The functions that are called in it, and the operators.
        calls: Vec<String>,
        /// The columns in it.
        columns: Vec<Column>,
    },
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The same as it is written in statements: with quotes where it needs some.
    pub written: String,
}

/// How something is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// With one value.
    Equal,
    /// With a list of about so many values.
    Member(f64),
    /// Whether it is null.
    Null,
    /// Whether it is true, or false.
    Truth,
    /// Smaller or greater than a value.
    Range,
    /// Whether a text begins with a value.
    Prefix,
    /// Whether a text has a value in it, or looks like a pattern.
    Inside,
    /// With a pattern that is not known.
    Pattern,
    /// Whether a document or list holds something: the operator.
    Holds(String),
    /// Something that no index helps with.
    Other,
}

/// The conditions that must all be true of a table's rows; `alias`: what the plan calls the table.
pub fn conditions(text: &str, alias: &str) -> Vec<Condition> {
    let reader = Reader { text, alias };
    let tokens: Vec<Token> = Lexer::new(text.as_bytes(), Lexing::default())
        .take(MOST_TOKENS)
        .collect();
    if tokens.len() == MOST_TOKENS {
        return Vec::new();
    }
    let tokens = bare(&tokens);
    reader
        .split(tokens, "and")
        .into_iter()
        .filter_map(|part| reader.condition(bare(part)))
        .collect()
}

/// What a sort goes by: the key, and what is behind it (`DESC`, `NULLS LAST`).
pub fn sort_key(text: &str, alias: &str) -> Option<(Key, String)> {
    let reader = Reader { text, alias };
    let tokens: Vec<Token> = Lexer::new(text.as_bytes(), Lexing::default())
        .take(MOST_TOKENS)
        .collect();
    let mut end = tokens.len();
    let is_order = |token: &Token| {
        const WORDS: [&str; 5] = ["desc", "asc", "nulls", "first", "last"];
        WORDS.iter().any(|word| reader.is_word(token, word))
    };
    while end > 0 && is_order(&tokens[end - 1]) {
        end -= 1;
    }
    let key = reader.key(bare(&tokens[..end]))?;
    let order = tokens
        .get(end)
        .map_or("", |first| &text[first.start as usize..]);
    Some((key, order.to_owned()))
}

struct Reader<'a> {
    text: &'a str,
    alias: &'a str,
}

impl Reader<'_> {
    fn of(&self, token: &Token) -> &str {
        self.text.get(token.range()).unwrap_or_default()
    }

    fn is_word(&self, token: &Token, word: &str) -> bool {
        token.kind == TokenKind::Word && self.of(token).eq_ignore_ascii_case(word)
    }

    /// A name without its quotes.
    fn name(&self, token: &Token) -> String {
        let text = self.of(token);
        match token.kind {
            TokenKind::Quoted => {
                let inner = text.trim_start_matches('"').trim_end_matches('"');
                inner.replace("\"\"", "\"")
            }
            _ => text.to_owned(),
        }
    }

    /// The parts between a word that is in no parentheses.
    fn split<'t>(&self, tokens: &'t [Token], word: &str) -> Vec<&'t [Token]> {
        let mut parts = Vec::new();
        let (mut start, mut depth) = (0, 0_usize);
        for (index, token) in tokens.iter().enumerate() {
            depth = deeper(depth, token);
            if depth == 0 && self.is_word(token, word) {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
        }
        parts.push(&tokens[start..]);
        parts
    }

    /// The columns of the table in these tokens.
    fn columns(&self, tokens: &[Token]) -> Vec<Column> {
        tokens
            .windows(3)
            .filter_map(|three| self.column(three))
            .collect()
    }

    /// A column of the table, if these tokens are one.
    fn column(&self, tokens: &[Token]) -> Option<Column> {
        let [alias, dot, name] = tokens else {
            return None;
        };
        let is_own = alias.kind.is_name()
            && dot.kind == TokenKind::Dot
            && name.kind.is_name()
            && self.name(alias) == self.alias;
        is_own.then(|| Column {
            name: self.name(name),
            written: self.of(name).to_owned(),
        })
    }

    /// One condition; none where it is not about the table.
    fn condition(&self, tokens: &[Token]) -> Option<Condition> {
        let other = |key| Condition {
            key,
            test: Test::Other,
        };
        if self.columns(tokens).is_empty() {
            return None;
        }
        if let [not, rest @ ..] = tokens
            && self.is_word(not, "not")
        {
            let key = self.key(bare(rest))?;
            let is_column = matches!(key, Key::Column(_));
            return Some(Condition {
                test: if is_column { Test::Truth } else { Test::Other },
                key,
            });
        }
        if self.split(tokens, "or").len() > 1 {
            return Some(other(self.expression(tokens)));
        }
        if let Some(at) = outer(tokens, |token| self.is_word(token, "is")) {
            let key = self.key(bare(&tokens[..at]))?;
            let test = match &tokens[at + 1..] {
                [null] if self.is_word(null, "null") => Test::Null,
                [truth] if self.is_word(truth, "true") || self.is_word(truth, "false") => {
                    Test::Truth
                }
                _ => Test::Other,
            };
            return Some(Condition { key, test });
        }
        let operator = outer(tokens, |token| token.kind == TokenKind::Operator);
        let Some(at) = operator else {
            let key = self.key(tokens)?;
            let is_column = matches!(key, Key::Column(_));
            return Some(Condition {
                test: if is_column { Test::Truth } else { Test::Other },
                key,
            });
        };
        let (left, right) = (bare(&tokens[..at]), bare(&tokens[at + 1..]));
        let operator = self.of(&tokens[at]);
        match (
            self.columns(left).is_empty(),
            self.columns(right).is_empty(),
        ) {
            (false, true) => Some(Condition {
                key: self.key(left)?,
                test: self.test(operator, right, false),
            }),
            (true, false) => Some(Condition {
                key: self.key(right)?,
                test: self.test(operator, left, true),
            }),
            _ => Some(other(self.expression(tokens))),
        }
    }

    /// How an operator compares with a value; `is_turned`: the value is on its left.
    fn test(&self, operator: &str, value: &[Token], is_turned: bool) -> Test {
        let list = value
            .first()
            .filter(|first| self.is_word(first, "any") || self.is_word(first, "all"));
        match (operator, list) {
            ("=", Some(first)) if self.is_word(first, "any") => {
                Test::Member(self.list_length(value))
            }
            (_, Some(_)) => Test::Other,
            ("=", None) => Test::Equal,
            ("<" | ">" | "<=" | ">=", None) => Test::Range,
            ("~~", None) if !is_turned => self.pattern(value),
            ("~~*" | "~" | "~*", None) if !is_turned => Test::Inside,
            ("@>" | "?" | "?|" | "?&" | "@@" | "@?" | "&&", None) => {
                Test::Holds(operator.to_owned())
            }
            _ => Test::Other,
        }
    }

    /// What is asked of a text by a pattern of LIKE.
    fn pattern(&self, value: &[Token]) -> Test {
        let Some(first) = value.first().filter(|first| first.kind.is_string()) else {
            return Test::Pattern;
        };
        let mut pattern = Vec::new();
        if !string_value(*first, self.text.as_bytes(), &mut pattern) {
            return Test::Pattern;
        }
        let fixed = pattern
            .iter()
            .position(|byte| matches!(byte, b'%' | b'_'))
            .unwrap_or(pattern.len());
        let rest = &pattern[fixed..];
        match (fixed, rest) {
            (0, _) => Test::Inside,
            (_, b"") => Test::Equal,
            _ => Test::Prefix,
        }
    }

    /// Values of `ANY ('{1,2}'::integer[])`.
    fn list_length(&self, value: &[Token]) -> f64 {
        let array = value.iter().find(|token| token.kind == TokenKind::String);
        let text = array.map(|array| self.of(array));
        let is_array = |text: &&str| text.starts_with("'{");
        let length = text
            .filter(is_array)
            .map(|text| text.matches(',').count() + 1);
        length.map_or(USUAL_LIST, |length| length as f64)
    }

    /// What is compared.
    fn key(&self, tokens: &[Token]) -> Option<Key> {
        let tokens = bare(tokens);
        if let Some(column) = self.column(tokens) {
            return Some(Key::Column(column));
        }
        // (alias.column)::type
        if let Some(close) = closes(tokens)
            && tokens.get(close + 1).map(|token| token.kind) == Some(TokenKind::Cast)
            && let Some(column) = self.column(bare(&tokens[..=close]))
        {
            let kind = tokens.get(close + 2)?;
            return Some(Key::Converted {
                column,
                to: self
                    .text
                    .get(kind.start as usize..tokens.last()?.end as usize)?
                    .to_owned(),
            });
        }
        (!self.columns(tokens).is_empty()).then(|| self.expression(tokens))
    }

    /// The text of an expression without the table's alias, what it calls, and its columns.
    fn expression(&self, tokens: &[Token]) -> Key {
        let mut text = String::new();
        let mut calls = Vec::new();
        let mut end = tokens.first().map_or(0, |first| first.start);
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let is_own = tokens
                .get(index..index + 3)
                .is_some_and(|three| self.column(three).is_some());
            if token.start > end {
                text.push(' ');
            }
            let written = if is_own { &tokens[index + 2] } else { token };
            text.push_str(self.of(written));
            end = written.end;
            let is_call = token.kind.is_name()
                && tokens.get(index + 1).map(|next| next.kind) == Some(TokenKind::Open);
            if is_call {
                calls.push(self.name(token));
            } else if matches!(token.kind, TokenKind::Operator | TokenKind::Cast) {
                calls.push(self.of(token).to_owned());
            }
            index += if is_own { 3 } else { 1 };
        }
        calls.sort();
        calls.dedup();
        let mut columns = self.columns(tokens);
        columns.sort();
        columns.dedup();
        Key::Expression {
            text,
            calls,
            columns,
        }
    }
}

/// The tokens without parentheses around all of them.
fn bare(mut tokens: &[Token]) -> &[Token] {
    while let [first, inner @ .., last] = tokens
        && first.kind == TokenKind::Open
        && last.kind == TokenKind::Close
        && closes(tokens) == Some(tokens.len() - 1)
    {
        tokens = inner;
    }
    tokens
}

/// Where in no parentheses one is of which this is true.
fn outer(tokens: &[Token], is_it: impl Fn(&Token) -> bool) -> Option<usize> {
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        depth = deeper(depth, token);
        depth == 0 && is_it(token)
    })
}

/// How deep in parentheses and brackets it is behind a token.
fn deeper(depth: usize, token: &Token) -> usize {
    match token.kind {
        TokenKind::Open | TokenKind::OpenBracket => depth + 1,
        TokenKind::Close | TokenKind::CloseBracket => depth.saturating_sub(1),
        _ => depth,
    }
}

/// Where the parenthesis closes that these tokens begin with.
fn closes(tokens: &[Token]) -> Option<usize> {
    tokens
        .first()
        .filter(|first| first.kind == TokenKind::Open)?;
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        depth = deeper(depth, token);
        depth == 0
    })
}

#[cfg(test)]
mod tests;
