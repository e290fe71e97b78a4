//! One table with the keys of several rooms, which do not know each other.

use outgrow_core::settings::TableDescription;

/// The description of a table whose keys are those of `first`, then those of `more`.
pub(super) fn described(
    name: &'static str,
    first: TableDescription,
    more: TableDescription,
) -> TableDescription {
    let mut description = first;
    description.name = name;
    description.doc = format!("{} {}", description.doc, more.doc);
    description.fields.extend(more.fields);
    description
}

/// The text of a table whose keys are those of these tables.
pub(super) fn text(tables: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let strip = |text: String| {
        let inner = text.strip_prefix("{ ")?.strip_suffix(" }")?;
        Some(inner.to_owned())
    };
    let tables = tables.into_iter().flatten();
    let parts: Vec<String> = tables.filter_map(strip).collect();
    Some(format!("{{ {} }}", parts.join(", ")))
}
