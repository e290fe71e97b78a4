//! Texts and their tokens.
