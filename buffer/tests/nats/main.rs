//! What stands on NATS, on real servers. A process of its own: one that starts others would hold the locks of stores that the
//! other tests open and close, for as long as a child takes to begin.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "../it/model.rs"]
mod commands;
mod conformance;
mod durability;
#[path = "../it/feed.rs"]
mod feed;
mod fleet;
mod full;
mod migrate;
mod model;
mod nodes;
mod outcomes;
mod proxy;
mod servers;
mod settings;
mod skew;
#[path = "../it/conformance.rs"]
mod suite;
#[path = "../it/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the other backends")]
mod support;
mod table;
#[path = "../it/tickets.rs"]
mod tickets;
mod trouble;
