//! A reference order management system (OMS): a real HTTP server with tokens, limits and faults on demand, to test
//! Forebay's HTTP target against; and a judge that tells from the OMS's side what came.
//!
//! # What it promises
//! - It knows nothing of Forebay: no crate of the workspace is named here, so it cannot share a mistake with what it
//!   judges.
//! - Its ledger is an append-only file. A create is answered after its commit is synced, and what was answered is there
//!   after a kill.
//! - A fault hits whom it says, every time: which call is the n-th is counted for each fault by itself.
//! - The judge reads the ledger and nothing else.
//!
//! `docs/reference-oms.md` has the interface.

mod clock;
mod dialect;
mod faults;
mod hash;
mod http;
mod judge;
mod latency;
mod ledger;
mod nth;
mod oms;
mod order;
mod pressure;
mod serve;
mod sessions;
mod teller;
mod tls;
mod tokens;

pub use dialect::Dialect;
pub use faults::{Faults, Latency, Overloaded};
pub use judge::{Judgement, judge};
pub use ledger::LedgerError;
pub use oms::{Options, TlsFiles};
pub use serve::{Server, StartError};
pub use tls::TlsError;
