//! The names of this crate's metrics, and the only place that records them.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::Counter;

use crate::{Answer, Effect};

/// One sync of the journal took so long.
pub(crate) fn fsync(took: Duration) {
    metrics::histogram!("forebay_buffer_fsync_duration_seconds").record(took.as_secs_f64());
}

/// So many orders and outcomes of another store were taken in, of about so many.
pub(crate) fn migrated(handed_over: u64, of: u64) {
    metrics::gauge!("forebay_buffer_migrated").set(lossy(handed_over));
    metrics::gauge!("forebay_buffer_migrated_of").set(lossy(of.max(handed_over)));
}

/// One group with so many records was made durable.
pub(crate) fn group(records: u32) {
    metrics::histogram!("forebay_buffer_group_records").record(f64::from(records));
}

/// Deliveries of so many bytes were made durable.
pub(crate) fn payload(bytes: u64) {
    metrics::counter!("forebay_buffer_payload_bytes_total").increment(bytes);
}

/// So many bytes were written to slots: groups, headers, zeros.
pub(crate) fn written(bytes: u64) {
    metrics::counter!("forebay_buffer_written_bytes_total").increment(bytes);
}

/// Bytes of disk the slots take, and the segments and spare slots among them.
pub(crate) fn disk(bytes: u64, segments: u64, spare: u64, quarantined: u64) {
    metrics::gauge!("forebay_buffer_disk_bytes").set(lossy(bytes));
    metrics::gauge!("forebay_buffer_segments").set(lossy(segments));
    metrics::gauge!("forebay_buffer_spare_slots").set(lossy(spare));
    metrics::gauge!("forebay_buffer_quarantined_slots").set(lossy(quarantined));
}

/// The journal failed a write or a sync and takes nothing more.
pub(crate) fn journal_failed() {
    metrics::counter!("forebay_buffer_journal_failures_total").increment(1);
}

/// A group took so many deliveries; the one that waited longest had waited so long when it was durable.
pub(crate) fn deliveries(orders: u32, waited: Duration) {
    metrics::histogram!("forebay_buffer_group_orders").record(f64::from(orders));
    metrics::histogram!("forebay_buffer_queue_wait_seconds").record(waited.as_secs_f64());
}

/// A delivery came to this. Each counter is looked up at its first use, when the recorder must be there.
pub(crate) fn answered(answer: Answer) {
    static COUNTERS: [OnceLock<Counter>; 16] = [const { OnceLock::new() }; 16];
    let counter =
        || metrics::counter!("forebay_buffer_deliveries_total", "answer" => answer.word());
    if let Some(known) = COUNTERS.get(answer as usize) {
        known.get_or_init(counter).increment(1);
    }
}

/// What the OMS said by itself of an order came to this.
pub(crate) fn told(effect: Effect) {
    metrics::counter!("forebay_buffer_told_total", "effect" => effect.word()).increment(1);
}

/// Whether the limits of a fleet's processes differ, or may.
pub(crate) fn differs(differs: bool) {
    metrics::gauge!("forebay_buffer_limits_differ").set(f64::from(u8::from(differs)));
}

/// So many orders became summaries.
pub(crate) fn summarised(orders: u64) {
    metrics::counter!("forebay_buffer_summarised_total").increment(orders);
}

/// Orders pending now, and lent out now.
pub(crate) fn orders(pending: u64, lent: u64) {
    metrics::gauge!("forebay_buffer_pending_orders").set(lossy(pending));
    metrics::gauge!("forebay_buffer_lent_orders").set(lossy(lent));
}

/// A segment was retired.
pub(crate) fn retired() {
    metrics::counter!("forebay_buffer_segments_retired_total").increment(1);
}

/// Outcomes in the outcome index, its runs, and the bytes these take of disk and memory.
pub(crate) fn outcomes(outcomes: u64, runs: u64, disk_bytes: u64, memory_bytes: u64) {
    metrics::gauge!("forebay_buffer_outcomes").set(lossy(outcomes));
    metrics::gauge!("forebay_buffer_outcome_runs").set(lossy(runs));
    metrics::gauge!("forebay_buffer_outcome_disk_bytes").set(lossy(disk_bytes));
    metrics::gauge!("forebay_buffer_outcome_memory_bytes").set(lossy(memory_bytes));
}

/// So many events were told by the outcome feed.
pub(crate) fn feed_events(events: u64) {
    metrics::counter!("forebay_buffer_feed_events_total").increment(events);
}

/// Bytes of disk the outcome feed takes.
pub(crate) fn feed_disk(bytes: u64) {
    metrics::gauge!("forebay_buffer_feed_disk_bytes").set(lossy(bytes));
}

/// The outcome feed could not be written, which ends the buffer.
pub(crate) fn feed_failed() {
    metrics::counter!("forebay_buffer_feed_failures_total").increment(1);
}

/// The outcome index could not be read or written.
pub(crate) fn outcomes_failed() {
    metrics::counter!("forebay_buffer_outcome_index_failures_total").increment(1);
}

/// A gauge is a float; above 2^53 the last bits do not matter.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn lossy(value: u64) -> f64 {
    value as f64
}
