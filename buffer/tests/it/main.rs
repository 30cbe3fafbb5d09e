//! The buffer from outside: one suite on every backend, a model with random reopens, and what only the
//! embedded backend must stand.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod again;
mod backends;
mod conformance;
mod embedded;
mod feed;
mod inspect;
mod look_first;
mod model;
mod pinned;
mod support;
mod tickets;
mod trouble;
