//! An open-loop load generator, a reconciliation and its books, for Forebay: a black box over HTTP.

mod answer;
mod client;
mod clock;
mod ledger;
pub mod mix;
mod play;
mod sale;
mod watch;

pub use answer::{Answer, Outcome};
pub use client::CallError;
pub use ledger::{Entry, Ledger, LedgerError};
pub use play::play;
pub use sale::{Progress, Sale, Shape, Target};
