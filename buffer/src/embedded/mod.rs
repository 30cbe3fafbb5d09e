//! The embedded backend: one machine, one data directory.

pub(crate) mod journal;
