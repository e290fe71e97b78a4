//! The paths that a route matches: a prefix by segment, or the whole path, with parameters.
//!
//! How they are looked up is in [`router`](crate::router).

use std::fmt::{self, Write as _};
use std::str::FromStr;

use outgrow_core::settings::{Kind, Node, Reader, Setting, Value, read_table};

/// Longest pattern, in bytes.
const LENGTH_LIMIT: usize = 1024;
/// Most segments of a pattern: the depth of the tree in which paths are looked up.
pub const SEGMENT_LIMIT: usize = 32;
/// Most parameters of a pattern: they are kept in an array of that size.
pub const PARAMETER_LIMIT: usize = 8;
/// Names that mean something else in a template.
const RESERVED: [&str; 4] = ["host", "path", "query", "rest"];

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// This text, normalised. The last one of an exact path may be empty: a slash at the end.
    Literal(String),
    /// Any segment that is not empty, by the name in braces.
    Parameter(String),
}

/// What a route's path is to be. Compared with normalised paths, so it is normalised alike:
/// escapes of unreserved characters are decoded, the others are in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern {
    segments: Vec<Segment>,
    exact: bool,
}

/// Why a text is not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It does not start with a slash.
    #[error("it does not start with /")]
    Slash,
    /// It has a query or a fragment.
    #[error("a query or fragment is not a part of the path; see `query`")]
    Query,
    /// It has a `*`.
    #[error("it is a prefix already: leave out the *; one segment of any text is {{name}}")]
    Star,
    /// It has an empty segment, `.` or `..`: no normalised path starts with it.
    #[error("no path starts with it: empty segments, . and .. are resolved first")]
    Segment,
    /// It has a character that stands in no path.
    #[error("{0:?} cannot stand in a path; write it percent-encoded")]
    Character(char),
    /// A percent sign without two hexadecimal digits.
    #[error("% needs two hexadecimal digits behind it")]
    Escape,
    /// It is longer than 1024 bytes.
    #[error("it has more than 1024 bytes")]
    Length,
    /// It has more segments than [`SEGMENT_LIMIT`].
    #[error("it has more than 32 segments")]
    Segments,
    /// It has more parameters than [`PARAMETER_LIMIT`].
    #[error("it has more than 8 parameters")]
    Parameters,
    /// Braces that are not around a whole segment.
    #[error("a parameter is a whole segment: /{{name}}/")]
    Braces,
    /// The name of a parameter is none.
    #[error("the name of a parameter has letters, digits and _ only and starts with a letter")]
    Name,
    /// The name of a parameter means something else.
    #[error("host, path, query and rest mean something else where parameters are used")]
    Reserved,
    /// Two parameters have the same name.
    #[error("two parameters have the same name")]
    Twice,
}

impl PathPattern {
    /// The prefix of every path.
    pub fn root() -> Self {
        Self {
            segments: Vec::new(),
            exact: false,
        }
    }

    /// The whole path: a slash at its end counts.
    pub fn exact(text: &str) -> Result<Self, PathPatternError> {
        let mut pattern = Self::parse(text)?;
        if text.ends_with('/') {
            pattern.segments.push(Segment::Literal(String::new()));
        }
        pattern.exact = true;
        Ok(pattern)
    }

    /// Whether only the whole path matches.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The segments; none for the root.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of the parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The pattern without the names of its parameters: patterns that have it in common match the
    /// same paths.
    pub fn shape(&self) -> (Vec<Option<&str>>, bool) {
        fn literal(segment: &Segment) -> Option<&str> {
            match segment {
                Segment::Literal(text) => Some(text),
                Segment::Parameter(_) => None,
            }
        }
        (self.segments.iter().map(literal).collect(), self.exact)
    }

    fn parse(text: &str) -> Result<Self, PathPatternError> {
        if !text.starts_with('/') {
            return Err(PathPatternError::Slash);
        }
        if text.len() > LENGTH_LIMIT {
            return Err(PathPatternError::Length);
        }
        if text.contains(['?', '#']) {
            return Err(PathPatternError::Query);
        }
        if text.contains('*') {
            return Err(PathPatternError::Star);
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        let mut segments = Vec::new();
        for text in path.split('/').skip(1) {
            segments.push(segment(text)?);
        }
        if segments.len() > SEGMENT_LIMIT {
            return Err(PathPatternError::Segments);
        }
        let pattern = Self {
            segments,
            exact: false,
        };
        let names: Vec<&str> = pattern.parameters().collect();
        if names.len() > PARAMETER_LIMIT {
            return Err(PathPatternError::Parameters);
        }
        if (1..names.len()).any(|at| names[..at].contains(&names[at])) {
            return Err(PathPatternError::Twice);
        }
        Ok(pattern)
    }
}

fn segment(text: &str) -> Result<Segment, PathPatternError> {
    if let Some(name) = text.strip_prefix('{') {
        let name = name.strip_suffix('}').ok_or(PathPatternError::Braces)?;
        if name.contains(['{', '}']) {
            return Err(PathPatternError::Braces);
        }
        let is_letter = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if !name.starts_with(|first: char| first.is_ascii_alphabetic())
            || !name.chars().all(is_letter)
        {
            return Err(PathPatternError::Name);
        }
        if RESERVED.contains(&name) {
            return Err(PathPatternError::Reserved);
        }
        return Ok(Segment::Parameter(name.to_owned()));
    }
    if text.contains(['{', '}']) {
        return Err(PathPatternError::Braces);
    }
    let text = normalise_escapes(text)?;
    if matches!(text.as_str(), "" | "." | "..") {
        return Err(PathPatternError::Segment);
    }
    Ok(Segment::Literal(text))
}

/// Decodes escapes of unreserved characters (RFC 3986 section 2.3), writes the others in upper
/// case, and refuses what cannot stand in a path (section 3.3).
fn normalise_escapes(text: &str) -> Result<String, PathPatternError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '%' {
            let digit = |character: Option<char>| character.and_then(|digit| digit.to_digit(16));
            let high = digit(rest.next()).ok_or(PathPatternError::Escape)?;
            let low = digit(rest.next()).ok_or(PathPatternError::Escape)?;
            let byte = (high * 16 + low) as u8;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        } else if character.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@/".contains(character) {
            out.push(character);
        } else {
            return Err(PathPatternError::Character(character));
        }
    }
    Ok(out)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return formatter.write_str("/");
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(formatter, "/{text}")?,
                Segment::Parameter(name) => write!(formatter, "/{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    /// A prefix.
    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        Self::parse(text)
    }
}

outgrow_core::settings! {
    /// A path that is matched whole.
    pub struct ExactPath {
        /// The whole path, with parameters `{name}` for segments of any text. A slash at the end
        /// counts: `/a` does not match `/a/`.
        pub exact: String = "/users/{id}".to_owned(), required = true;
    }
}

impl Setting for PathPattern {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let (read, what, text, node) = match &node.value {
            Value::String { text, .. } => (text.parse(), "a path prefix", text.clone(), node),
            Value::Table(_) => {
                let table = read_table::<ExactPath>(node, reader)?;
                let inner = node.entry("exact").map_or(node, |entry| &entry.node);
                (Self::exact(&table.exact), "a path", table.exact, inner)
            }
            _ => {
                reader.wrong_type(node, "a path prefix or a table", "\"/api\"");
                return None;
            }
        };
        match read {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let hint = "write for example \"/\", \"/api\" or { exact = \"/users/{id}\" }";
                reader.wrong_value(
                    node,
                    &text,
                    format_args!("is not {what}: {error}"),
                    hint.to_owned(),
                );
                None
            }
        }
    }

    fn kind() -> Kind {
        let prefix = Kind::Text {
            name: "a path prefix",
            examples: &["/", "/api", "/shops/{shop}"],
        };
        Kind::Any(vec![prefix, ExactPath::kind()])
    }

    fn text(&self) -> Option<String> {
        if !self.exact {
            return self.to_string().text();
        }
        let exact = self.to_string();
        ExactPath { exact }.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_normalised() {
        let table = [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/%61%2d/%c3%bc/%2F", "/a-/%C3%BC/%2F"),
            ("/a.b/~c;d=e", "/a.b/~c;d=e"),
            ("/{a}/x/{b_1}/", "/{a}/x/{b_1}"),
        ];
        for (text, expected) in table {
            let pattern: PathPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), expected, "{text}");
            assert!(!pattern.is_exact());
        }
        let exact = |text| PathPattern::exact(text).unwrap();
        assert_eq!(exact("/a/").text().unwrap(), "{ exact = \"/a/\" }");
        assert_eq!(exact("/").to_string(), "/");
        assert_eq!(exact("/").segments().len(), 1);
    }

    #[test]
    fn what_no_path_can_be_is_refused() {
        use PathPatternError as E;
        let many = |segment: &str, count: usize| segment.repeat(count);
        let eight = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}";
        let table = [
            ("//", E::Segment),
            ("/a//", E::Segment),
            ("/%2e%2e/a", E::Segment),
            ("/./a", E::Segment),
            ("/\0", E::Character('\0')),
            ("/a\\b", E::Character('\\')),
            ("/%zz", E::Escape),
            ("/%", E::Escape),
            ("/a{b}", E::Braces),
            ("/{b", E::Braces),
            ("/b}", E::Braces),
            ("/{b}c", E::Braces),
            ("/{}", E::Name),
            ("/{1}", E::Name),
            ("/{a-b}", E::Name),
            ("/{rest}", E::Reserved),
            ("/{a}/{a}", E::Twice),
            (&format!("/{}", many("a", 1024)), E::Length),
            (&many("/a", 33), E::Segments),
            (eight, E::Parameters),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<PathPattern>(), Err(error), "{text}");
            assert_eq!(PathPattern::exact(text), Err(error), "{text}");
        }
        assert!(many("/a", 32).parse::<PathPattern>().is_ok());
    }
}
