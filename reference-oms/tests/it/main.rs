//! The reference OMS over real HTTP, in this process: each fault fires, and the judge tells it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests: a panic is the failure, a deadline is by the machine's clock"
)]

mod control;
mod cuts;
mod dialects;
mod keep;
mod limits;
mod orders;
mod support;
mod telling;
mod tls;
mod tokens;
