//! The door over real sockets on loopback, with the memory backend behind it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected ends"
)]

mod answers;
mod bad_input;
mod batches;
mod connections;
mod faults;
mod graphs;
mod looks;
mod orders;
mod support;
