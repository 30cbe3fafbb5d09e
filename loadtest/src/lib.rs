//! An open-loop load generator, a reconciliation and its books, for Forebay.
//!
//! A black box: it speaks HTTP to the two listeners and knows nothing else of the server.
//!
//! ```text
//! Sale -> Mix::new (every body and moment) -> Ledger::new -> play (once, or in segments) -> reconcile -> Books
//! ```
//!
//! It loads the machine it runs on: point it at a server you may load.

mod answer;
mod books;
mod client;
mod clock;
mod drain;
mod evidence;
mod ledger;
pub mod mix;
mod play;
mod reconcile;
mod sale;
mod watch;

pub use answer::{Answer, Outcome};
pub use books::Books;
pub use client::CallError;
pub use ledger::{Entry, Ledger, LedgerError};
pub use mix::Mix;
pub use play::play;
pub use reconcile::reconcile;
pub use sale::{Progress, Sale, Shape, Target};
