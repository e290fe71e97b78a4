//! Which texts are the same statement, and how they are shown.
