//! The room with real processes: `house` is the harness, `probe` (a program of
//! its own) plays the processes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod house;
mod instances;
mod keeper;
mod surroundings;
mod upgrades;
