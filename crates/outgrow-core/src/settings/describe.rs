//! What can be written where: descriptions from which the manual and the JSON Schema are made.
//!
//! How they look is decided in the binary (`outgrow/src/config`).

/// A table and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDescription {
    /// Name of the struct, `ListenerTimeouts`.
    pub name: &'static str,
    /// The manual's text.
    pub doc: String,
    /// The keys in the order of their declaration.
    pub fields: Vec<FieldDescription>,
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDescription {
    /// The key.
    pub name: &'static str,
    /// The manual's text.
    pub doc: String,
    /// What may be written.
    pub kind: Kind,
    /// What holds when the key is not written: TOML, or words when it depends on something;
    /// `None`: nothing is set then. For a required key an example.
    pub default: Option<String>,
    /// Whether `default` is words and not TOML.
    pub default_is_words: bool,
    /// Smallest and largest possible value, as TOML.
    pub range: Option<(String, String)>,
    /// Whether the key must be written.
    pub required: bool,
}

/// What may be written as the value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number from `minimum` to `maximum`.
    Integer {
        /// Smallest value of the type.
        minimum: i128,
        /// Largest value of the type.
        maximum: i128,
    },
    /// Any text.
    String,
    /// Text that is never shown.
    Secret,
    /// `"250ms"`
    Duration,
    /// `"16KiB"` or a number of bytes.
    Size,
    /// A whole number from 0 to 100.
    Percent,
    /// A number from 0 with at most three digits after the point.
    Decimal,
    /// Text of a certain form.
    Text {
        /// What it is called: `address`.
        name: &'static str,
        /// Some that may be written.
        examples: &'static [&'static str],
    },
    /// One of a few words.
    Choice(Vec<ChoiceDescription>),
    /// `[a, b]`
    List(Box<Kind>),
    /// A table whose keys are free.
    Map(Box<Kind>),
    /// A table whose keys are known.
    Table(TableDescription),
    /// Any of several.
    Any(Vec<Kind>),
}

/// One word of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceDescription {
    /// The word.
    pub name: &'static str,
    /// The manual's text.
    pub doc: String,
}

/// The text of doc comments without the blank that follows `///`.
#[doc(hidden)]
pub fn text_of_doc(doc: &str) -> String {
    let lines: Vec<&str> = doc
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    lines.join("\n").trim().to_owned()
}
