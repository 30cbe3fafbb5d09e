//! The names of this crate's metrics, and the only place that records them.
#![allow(dead_code, reason = "the journal's writer comes next")]

use std::time::Duration;

/// One sync of the journal took so long.
pub(crate) fn fsync(took: Duration) {
    metrics::histogram!("forebay_buffer_fsync_duration_seconds").record(took.as_secs_f64());
}

/// One group with so many records and bytes was made durable.
pub(crate) fn group(records: u32, bytes: u32) {
    metrics::histogram!("forebay_buffer_group_records").record(f64::from(records));
    metrics::counter!("forebay_buffer_written_bytes_total").increment(u64::from(bytes));
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

/// A gauge is a float; above 2^53 the last bits do not matter.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn lossy(value: u64) -> f64 {
    value as f64
}
