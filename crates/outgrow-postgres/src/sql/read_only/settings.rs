//! Settings that are the session's own wherever it is executed, so that a replica shows the same.
//!
//! All others may differ between servers, and some between a primary and its replicas by design
//! (`transaction_read_only`, `in_hot_standby`).

const SAME: [&str; 33] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "integer_datetimes",
    "intervalstyle",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_identifier_length",
    "role",
    "row_security",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "xmloption",
];

/// Whether a setting of this name is the same on every server for one session: those above, in any
/// case, and all with a dot in their name, which applications make up.
pub(super) fn is_the_same_everywhere(name: &[u8]) -> bool {
    let is_made_up = name.contains(&b'.');
    is_made_up
        || SAME
            .iter()
            .any(|same| same.as_bytes().eq_ignore_ascii_case(name))
}
