//! Statements and what is proven of them.
