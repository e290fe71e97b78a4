//! Tables with known keys: the [`Table`] trait and the `settings!` macro that implements it.

use crate::settings::{Node, Reader, TableDescription, TableReader};

/// A table with known keys, as declared with [`settings!`](crate::settings!).
pub trait Table: Sized + Default {
    /// The table and its keys.
    fn describe() -> TableDescription;

    /// Reads the keys that this table knows and checks the rules between them. A key that is
    /// missing or wrong has its default, so that all problems are found; that there was a problem
    /// is known from the reader. Does not tell of unknown keys: another table may know them.
    fn read_fields(table: &mut TableReader<'_, '_>) -> Self;
}

/// Reads a whole table: unknown keys are problems.
pub fn read_table<T: Table>(node: &Node, reader: &mut Reader) -> Option<T> {
    let before = reader.count();
    let mut table = TableReader::new(node, reader)?;
    let value = T::read_fields(&mut table);
    table.finish();
    (reader.count() == before).then_some(value)
}

/// Declares a table of settings.
///
/// ```
/// use std::time::Duration;
/// outgrow_core::settings! {
///     /// How long to wait.
///     pub struct Timeouts {
///         /// Until the connection stands.
///         pub connect: Duration = Duration::from_secs(2),
///             in Duration::from_millis(1)..=Duration::from_secs(60);
///         /// Where to; must be written, the value here is the example.
///         pub host: String = "127.0.0.1".to_owned(), required = true;
///         /// How many at a time.
///         pub workers: Option<u16> = None, in Some(1)..=Some(256), shown = "number of cores";
///     }
/// }
/// assert_eq!(Timeouts::default().connect, Duration::from_secs(2));
/// ```
///
/// `#[check = function]` between the doc comment and `pub struct` names a
/// `fn(&Self, &mut TableReader<'_, '_>)` for rules between the keys; it is called only when every
/// key by itself is right.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $(#[check = $check:path])?
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                pub $field:ident : $type:ty = $default:expr
                    $(, in $range:expr)?
                    $(, required = $required:literal)?
                    $(, shown = $shown:literal)?;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                pub $field: $type,
            )*
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::settings::Table for $name {
            fn describe() -> $crate::settings::TableDescription {
                let defaults = <Self as ::std::default::Default>::default();
                let fields = ::std::vec![$({
                    #[allow(unused_mut, reason = "changed only by optional parts of the macro")]
                    let mut field = $crate::settings::FieldDescription {
                        name: ::std::stringify!($field),
                        doc: $crate::settings::describe::text_of_doc(
                            ::std::concat!($($field_doc, "\n"),*)
                        ),
                        kind: <$type as $crate::settings::Setting>::kind(),
                        default: $crate::settings::Setting::text(&defaults.$field),
                        default_is_words: false,
                        range: None,
                        required: false,
                    };
                    $(
                        let range: ::std::ops::RangeInclusive<$type> = $range;
                        field.range = $crate::settings::Setting::text(range.start())
                            .zip($crate::settings::Setting::text(range.end()));
                    )?
                    $(field.required = $required;)?
                    $(
                        field.default = Some(::std::string::String::from($shown));
                        field.default_is_words = true;
                    )?
                    field
                }),*];
                $crate::settings::TableDescription {
                    name: ::std::stringify!($name),
                    doc: $crate::settings::describe::text_of_doc(::std::concat!($($doc, "\n"),*)),
                    fields,
                }
            }

            fn read_fields(table: &mut $crate::settings::TableReader<'_, '_>) -> Self {
                let defaults = <Self as ::std::default::Default>::default();
                let before = table.reader().count();
                let value = Self {
                    $($field: {
                        let value: Option<$type> = table.read(::std::stringify!($field));
                        $(let value = table.within(::std::stringify!($field), value, &($range));)?
                        $(if $required {
                            let example = $crate::settings::Setting::text(&defaults.$field);
                            table.require(
                                ::std::stringify!($field),
                                &example.unwrap_or_default(),
                            );
                        })?
                        value.unwrap_or(defaults.$field)
                    },)*
                };
                $(
                    if table.reader().count() == before {
                        $check(&value, table);
                    }
                )?
                let _ = before;
                value
            }
        }

        impl $crate::settings::Setting for $name {
            fn read(
                node: &$crate::settings::Node,
                reader: &mut $crate::settings::Reader,
            ) -> Option<Self> {
                $crate::settings::read_table(node, reader)
            }

            fn kind() -> $crate::settings::Kind {
                $crate::settings::Kind::Table(<Self as $crate::settings::Table>::describe())
            }

            fn text(&self) -> Option<::std::string::String> {
                let fields = [$(
                    $crate::settings::Setting::text(&self.$field)
                        .map(|text| ::std::format!("{} = {text}", ::std::stringify!($field))),
                )*];
                let fields: ::std::vec::Vec<_> = fields.into_iter().flatten().collect();
                Some(::std::format!("{{ {} }}", fields.join(", ")))
            }
        }
    };
}
