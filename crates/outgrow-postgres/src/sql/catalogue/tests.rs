//! Rows and what they make of names.
