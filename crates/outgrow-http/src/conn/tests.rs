//! Tests of the driver on a simulated wire: thousands of seeds, and every cut at every byte.
//!
//! A failure prints its seed; `OUTGROW_SEED=n cargo test -p outgrow-http conn` runs only that one.

mod body;
mod buffers;
mod clients;
mod exchange;
mod meant;
mod reference;
mod whole;
mod wire;

use std::sync::Arc;

use outgrow_message::{Blocks, Ledger};

use self::wire::over_seeds;

/// Blocks with a ledger that must be empty in the end.
fn blocks() -> (Arc<Ledger>, Arc<Blocks>) {
    let ledger = Ledger::new(64 * 1024 * 1024);
    let blocks = Blocks::new(Arc::clone(&ledger));
    (ledger, blocks)
}
