//! The HTTP/2 adapter, both sides, over a connection in memory: whatever the peer says, however little
//! it takes and whatever is done with the streams, nothing panics, no poll goes on without an end, what
//! is held stays within the settings, the connection ends once the peer is gone, and nothing of it is
//! left in the ledger.
#![no_main]

#[path = "h2/client_side.rs"]
mod client_side;
#[path = "h2/server_side.rs"]
mod server_side;
#[path = "h2/steps.rs"]
mod steps;
#[path = "h2/wire.rs"]
mod wire;

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use outgrow_message::{Blocks, Ledger};

/// One supply for all inputs: to make its blocks anew would take longer than the rest.
static SUPPLY: OnceLock<(Arc<Ledger>, Arc<Blocks>)> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else {
        return;
    };
    let (ledger, blocks) = SUPPLY.get_or_init(|| {
        let ledger = Ledger::new(16 << 20);
        (Arc::clone(&ledger), Blocks::new(ledger))
    });
    match first & 1 {
        0 => server_side::run(first, input, ledger, blocks),
        _ => client_side::run(first, input, ledger, blocks),
    }
    assert_eq!(ledger.used_bytes(), 0, "something is still held");
});
