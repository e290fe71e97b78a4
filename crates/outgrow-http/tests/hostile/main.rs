//! The HTTP/1.1 core against everything that is known to confuse parsers, and against other parsers.

mod compare;
mod differential;
mod list;
mod mutations;
mod simple;
