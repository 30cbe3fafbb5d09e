//! End to end: the real binary over real HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that cannot run says so")]

mod answers;
mod bad_input;
mod bodies;
mod brakes;
mod claim;
mod doctor;
mod fleet;
mod graph;
mod harness;
mod money;
mod offline;
mod oms;
mod outcomes;
mod pitfalls;
mod postgres;
mod presets;
mod published;
mod real_orders;
mod replay;
mod sale;
mod sap;
mod smoke;
mod sockets;
mod sync_held;
mod tls;
mod trouble;
mod verify;
mod webhooks;
