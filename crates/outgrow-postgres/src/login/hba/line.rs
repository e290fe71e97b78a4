//! Lines, fields and tokens of pg_hba.conf and pg_ident.conf.

/// Longest token in bytes.
const LONGEST_TOKEN: usize = 10 * 1024;

/// Most tokens in a line.
const MOST_TOKENS: usize = 10_000;

/// A word. In quotes it has no special meaning, but that of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) is_quoted: bool,
}

impl Token {
    /// Whether it is this word, and not a name in quotes.
    pub(super) fn is_keyword(&self, word: &str) -> bool {
        !self.is_quoted && self.text == word
    }

    /// What follows a mark that means something outside of quotes.
    pub(super) fn after_mark(&self, mark: char) -> Option<&str> {
        let rest = self.text.strip_prefix(mark)?;
        (!self.is_quoted).then_some(rest)
    }

    /// The pattern, if it is one. Quotes make no difference, since patterns with commas need them.
    pub(super) fn pattern(&self) -> Option<&str> {
        self.text.strip_prefix('/')
    }
}

/// One or more tokens with commas between them.
pub(super) type Field = Vec<Token>;

/// The lines of a text with their numbers. A backslash at the end continues a line, also in quotes
/// and comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (u32, String)> {
    // A mark that editors of another system leave at the start.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            let Some((_, next)) = lines.next() else {
                break;
            };
            whole.pop();
            whole.push_str(next);
        }
        Some((number, whole))
    })
}

/// The fields of a line, without its comment.
pub(super) fn fields(line: &str) -> Result<Vec<Field>, String> {
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = line;
    let mut continues = false;
    let mut count = 0;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            if fields.is_empty() {
                return Err("begins with a comma".to_owned());
            }
            continues = true;
            rest = after;
            continue;
        }
        if rest.is_empty() || rest.starts_with('#') {
            return match continues {
                true => Err("ends with a comma".to_owned()),
                false => Ok(fields),
            };
        }
        let (token, after) = token(rest)?;
        count += 1;
        if count > MOST_TOKENS {
            return Err(format!("has more than {MOST_TOKENS} words"));
        }
        match fields.last_mut() {
            Some(field) if continues => field.push(token),
            _ => fields.push(vec![token]),
        }
        continues = false;
        rest = after;
    }
}

/// The token at the start, and what comes after it. Quotes may begin and end within it; two of
/// them within quotes are one.
fn token(text: &str) -> Result<(Token, &str), String> {
    let mut token = String::new();
    let mut is_open = false;
    let mut end = text.len();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if is_open && characters.peek().is_some_and(|&(_, next)| next == '"') => {
                characters.next();
                token.push('"');
            }
            '"' => is_open = !is_open,
            ',' | '#' if !is_open => {
                end = at;
                break;
            }
            space if space.is_whitespace() && !is_open => {
                end = at;
                break;
            }
            other => token.push(other),
        }
        if token.len() > LONGEST_TOKEN {
            return Err(format!("has a word of more than {LONGEST_TOKEN} bytes"));
        }
    }
    if is_open {
        return Err("has a quote (\") that is not closed".to_owned());
    }
    let token = Token {
        text: token,
        is_quoted: text.starts_with('"'),
    };
    Ok((token, &text[end..]))
}
