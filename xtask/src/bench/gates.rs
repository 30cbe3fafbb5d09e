//! The limits every figure is held to. Their source is the issue of the embedded buffer's speed and size; each is a ratio
//! inside one run or a figure of the project's two-core reference machine.

use std::time::Duration;

/// accept: orders per server CPU second, of hello-world requests per server CPU second.
pub(super) const ACCEPT_CPU_RATIO_MIN: f64 = 0.62;
/// accept: orders a second, of hello-world requests a second.
pub(super) const ACCEPT_RATIO_MIN: f64 = 0.65;
/// accept: milliseconds.
pub(super) const ACCEPT_P99_MS_MAX: f64 = 5.0;
/// accept --full: CPU an order, of that with one million orders pending.
pub(super) const ACCEPT_FULL_CPU_MAX: f64 = 1.10;
/// batch: orders a second.
pub(super) const BATCH_PER_S_MIN: f64 = 300_000.0;
/// batch: orders a second, of hello-world requests a second.
pub(super) const BATCH_RATIO_MIN: f64 = 2.5;
/// mixed: orders a second beside the drain, of accepting alone.
pub(super) const MIXED_RATIO_MIN: f64 = 0.85;
/// mixed: milliseconds.
pub(super) const MIXED_P99_MS_MAX: f64 = 6.0;
/// mixed: orders a second that drain meanwhile.
pub(super) const MIXED_DRAIN_PER_S: f64 = 20_000.0;
/// mixed: below this share of it the run shows nothing.
pub(super) const MIXED_DRAIN_SHARE_MIN: f64 = 0.95;
/// journal: orders a second, of sled's with its file synced.
pub(super) const JOURNAL_RATIO_MIN: f64 = 3.0;
/// journal: bytes written, of the orders' bytes, on recycled slots.
pub(super) const JOURNAL_BYTES_RATIO_MAX: f64 = 1.15;
/// memory: bytes a pending order.
pub(super) const MEMORY_BYTES_MAX: f64 = 64.0;
/// memory: the longest time without an answer while it grows.
pub(super) const MEMORY_STALL_MS_MAX: f64 = 20.0;
/// memory: slots beside the burst reserve that may be left after the drain.
pub(super) const SLOTS_LEFT_MAX: u64 = 2;
/// recovery: one million pending orders.
pub(super) const RECOVERY_1M_MAX: Duration = Duration::from_secs(2);
/// recovery --full: ten million.
pub(super) const RECOVERY_10M_MAX: Duration = Duration::from_secs(15);
/// nats_accept: orders a second through the door, of bare creates on the same stream.
pub(super) const NATS_ACCEPT_RATIO_MIN: f64 = 0.75;
/// nats_batch: the same by a hundred orders a request.
pub(super) const NATS_BATCH_RATIO_MIN: f64 = 0.9;
/// nats_drain: whole orders a second, of bare cycles.
pub(super) const NATS_DRAIN_RATIO_MIN: f64 = 0.9;
/// oms_postgres, oms_sqlite: orders a second, of the same rows inserted by hand.
pub(super) const OMS_RATIO_MIN: f64 = 0.9;
/// The same: time a line of an order with 2,000, of that in usual orders.
pub(super) const OMS_LINE_RATIO_MAX: f64 = 1.0;
/// protect: a reader's p99 during the burst through Forebay, of that without one.
pub(super) const PROTECT_RATIO_MAX: f64 = 1.2;
/// protect: below this share of what is offered, and of the ceiling drained, the run shows nothing.
pub(super) const PROTECT_SHARE_MIN: f64 = 0.95;
