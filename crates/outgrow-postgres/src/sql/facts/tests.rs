//! Statements and what they are.
