//! The conformance suite on the backends of one machine.

use std::sync::Arc;

use crate::conformance::{self, suite};
use crate::support::*;

macro_rules! on_memory_and_disk {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let clock = Arc::new(HandClock::default());
                conformance::$name(memory(&clock), &clock).await;
            })*
        }

        mod on_disk {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let clock = Arc::new(HandClock::default());
                conformance::$name(embedded(dir.path(), 1 << 20, &clock), &clock).await;
            })*
        }
    };
}

suite!(on_memory_and_disk);
