//! Starts, asks and stops the real binary.

#![allow(
    dead_code,
    unused_imports,
    reason = "each module of the tests uses its own part of the harness"
)]

mod http;
mod serve;

pub(crate) use http::{Answer, Request};
pub(crate) use serve::{Forebay, WAIT};
