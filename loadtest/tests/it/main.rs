//! The load test against a small server that answers as Forebay's contract says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests: a panic is the failure, the server keeps its own time"
)]

mod bodies;
mod faults;
mod sale;
mod segments;
mod server;
