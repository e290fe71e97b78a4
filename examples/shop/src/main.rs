//! The program `shop`: one instance of the shop, told by its environment where
//! to listen. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    outgrow_shop::main_from_env()
}
