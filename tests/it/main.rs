//! End to end: the real binary over real HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod harness;
mod real_orders;
mod smoke;
mod sync_held;
