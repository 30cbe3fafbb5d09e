//! Tests of this crate's own machinery, with the real binary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bench;
mod volatile_disk;
