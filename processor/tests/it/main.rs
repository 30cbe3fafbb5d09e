//! The processor against real OMSs and a real buffer.

mod conformance;
mod drain;
mod governor;
mod ledger;
mod sqlite;
mod support;
mod unruly;
