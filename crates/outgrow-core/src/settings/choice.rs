//! Choices: settings that are one of a few words, declared with `choice!`.

use crate::settings::{ChoiceDescription, Kind, Node, Reader, nearest};

/// Reads a word of a choice; what [`choice!`](crate::choice!) expands to, not for direct use.
#[doc(hidden)]
pub fn read_word<T: Copy>(
    node: &Node,
    reader: &mut Reader,
    words: &[(&str, T)],
    elsewhere: &[(&str, &str)],
) -> Option<T> {
    let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
    let one_of = format!("one of {}", names.join(", "));
    let text = reader.string(node, &one_of, &names[0])?;
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let told = elsewhere.iter().find(|(word, _)| *word == text);
    let hint = match (told, nearest(text, words.iter().map(|(name, _)| *name))) {
        (Some((_, hint)), _) => (*hint).to_owned(),
        (None, Some(name)) => format!("did you mean {name:?}?"),
        (None, None) => format!("write {one_of}"),
    };
    reader.wrong_value(node, text, format_args!("is not {one_of}"), hint);
    None
}

/// The kind of a choice; what [`choice!`](crate::choice!) expands to, not for direct use.
#[doc(hidden)]
pub fn kind_of_words(words: &[(&'static str, &'static str)]) -> Kind {
    let describe = |(name, doc): &(&'static str, &'static str)| ChoiceDescription {
        name,
        doc: crate::settings::describe::text_of_doc(doc),
    };
    Kind::Choice(words.iter().map(describe).collect())
}

/// Declares a setting that is one of a few words.
///
/// ```
/// outgrow_core::choice! {
///     /// How it is written.
///     pub enum Format {
///         /// For people.
///         Text = "text",
///         /// For programs.
///         Json = "json",
///     }
/// }
/// assert_eq!(Format::Json.as_str(), "json");
/// ```
///
/// `elsewhere "word" = "hint"` behind the enum is for a word that one may look for here and that has
/// its place elsewhere.
#[macro_export]
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $(
                $(#[doc = $variant_doc:literal])*
                $variant:ident = $word:literal
            ),+ $(,)?
        }
        $(elsewhere $elsewhere:literal = $hint:literal)*
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(
                $(#[doc = $variant_doc])*
                $variant,
            )+
        }

        impl $name {
            /// The word as it is written in the file.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl $crate::settings::Setting for $name {
            fn read(
                node: &$crate::settings::Node,
                reader: &mut $crate::settings::Reader,
            ) -> Option<Self> {
                let words = [$(($word, Self::$variant)),+];
                $crate::settings::choice::read_word(
                    node,
                    reader,
                    &words,
                    &[$(($elsewhere, $hint)),*],
                )
            }

            fn kind() -> $crate::settings::Kind {
                $crate::settings::choice::kind_of_words(
                    &[$(($word, ::std::concat!($($variant_doc, "\n"),*))),+]
                )
            }

            fn text(&self) -> Option<::std::string::String> {
                Some(::std::format!("{:?}", self.as_str()))
            }
        }
    };
}
