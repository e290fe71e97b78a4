//! Lists of content codings, and what is wrong with one.

use outgrow_core::settings::TableReader;

/// Complains of a list below `key` that has a coding twice; and of an empty one where that would mean that
/// nothing is what the table's name, `verb`, says.
pub(super) fn check_codings<C: Copy + Ord>(
    codings: &[C],
    (key, verb): (&str, Option<&str>),
    table: &mut TableReader<'_, '_>,
) {
    if let Some(verb) = verb.filter(|_| codings.is_empty()) {
        let message = format!("without a coding nothing is {verb}ed");
        let hint = format!("leave `{verb}` out to {verb} nothing");
        table.problem(key, message, hint);
    }
    let mut sorted = codings.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < codings.len() {
        table.problem(key, "a coding is in the list twice", "remove one of them");
    }
}
