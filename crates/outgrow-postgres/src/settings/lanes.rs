//! Over how many workers a pool is spread.

use outgrow_core::settings::{ChoiceDescription, Kind, Node, Reader, Setting, Value};

/// The most workers that there are.
const MOST: u16 = 256;

/// Over how many workers the clients of one pool are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneCount {
    /// As many as it needs.
    Auto,
    /// So many.
    Count(u16),
}

impl Setting for LaneCount {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Value::String { text, .. } = &node.value
            && text == "auto"
        {
            return Some(Self::Auto);
        }
        if let Value::String {
            text,
            from_environment: false,
        } = &node.value
        {
            let hint = "write for example 1, or \"auto\"".to_owned();
            reader.wrong_value(node, text, "is neither a number nor \"auto\"", hint);
            return None;
        }
        let count = u16::read(node, reader)?;
        if (1..=MOST).contains(&count) {
            return Some(Self::Count(count));
        }
        let message = format!("{count} is outside of what is possible: 1 to {MOST}");
        reader.error_with_hint(node.span, message, "write for example 1, or \"auto\"");
        None
    }

    fn kind() -> Kind {
        Kind::Any(vec![
            Kind::Integer {
                minimum: 1,
                maximum: MOST.into(),
            },
            Kind::Choice(vec![ChoiceDescription {
                name: "auto",
                doc: "As many as the pool needs.".to_owned(),
            }]),
        ])
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Count(count) => Some(count.to_string()),
            Self::Auto => Some("\"auto\"".to_owned()),
        }
    }
}
