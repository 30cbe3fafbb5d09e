//! The processor against real OMSs and a real buffer.

mod conformance;
mod governor;
mod ledger;
mod sqlite;
mod support;
