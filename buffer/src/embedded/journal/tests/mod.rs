//! What the journal promises, tested through its interface.

mod basic;
mod support;
