//! Tests of the driver on a simulated wire: thousands of seeds, and every cut at every byte.
//!
//! A failure prints its seed; `OUTGROW_SEED=n cargo test -p outgrow-http conn` runs only that one.

mod body;
mod buffers;
mod clients;
mod exchange;
mod meant;
mod reference;
mod wire;

use outgrow_message::{Blocks, Ledger};
use std::sync::Arc;

/// Blocks with a ledger that must be empty in the end.
fn blocks() -> (Arc<Ledger>, Arc<Blocks>) {
    let ledger = Ledger::new(64 * 1024 * 1024);
    let blocks = Blocks::new(Arc::clone(&ledger));
    (ledger, blocks)
}

/// Runs `simulate` for each of so many seeds, or for the one of `OUTGROW_SEED`.
fn over_seeds(count: u64, simulate: impl Fn(u64)) {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("failed with seed {0}: OUTGROW_SEED={0} repeats it", self.0);
            }
        }
    }
    let only = std::env::var("OUTGROW_SEED").ok();
    let only = only.map(|seed| seed.parse::<u64>().expect("OUTGROW_SEED is a number"));
    let seeds = only.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        let _told = Told(seed);
        simulate(seed);
    }
}
