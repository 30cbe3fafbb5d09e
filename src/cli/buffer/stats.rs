//! `forebay buffer stats`: how much is there, and of what.

use std::collections::BTreeMap;
use std::process::ExitCode;

use forebay_buffer::{Clock as _, Inspection, SystemClock};
use serde_json::json;

use super::super::{EXIT_MET, print};

/// Prints what the buffer holds.
pub(super) fn run(found: &Inspection, json: bool) -> ExitCode {
    let status = found.status(SystemClock.wall_ms());
    let segments = found.segments();
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let bodies: u64 = segments.iter().map(|segment| segment.body_bytes).sum();
    let mut live_bytes = 0_u64;
    let mut oldest: Option<i64> = None;
    for order in found.orders().flatten() {
        live_bytes = live_bytes.saturating_add(order.body.len() as u64);
        oldest = Some(oldest.map_or(order.accepted_at_ms, |ms| ms.min(order.accepted_at_ms)));
    }
    let settled_bytes = bodies.saturating_sub(live_bytes);
    let (slots, spare, set_aside) = found.slots();
    let store =
        found.store().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if json {
        print(&json!({
            "store": store, "slot_bytes": found.slot_bytes(), "slots": slots, "spare_slots": spare,
            "slots_set_aside": set_aside, "segments": segments, "bytes": bytes, "live_body_bytes": live_bytes,
            "settled_body_bytes": settled_bytes, "records": found.records(), "live": status.live,
            "ended": status.ended, "outcomes": status.outcomes, "exceptions": status.exceptions, "money_waiting": status.money_waiting,
            "oldest_accepted_at_ms": oldest, "oldest_pending_ms": status.oldest_pending_ms,
        }).to_string());
        return ExitCode::from(EXIT_MET);
    }
    let counts = |counts: &BTreeMap<&'static str, u64>| -> String {
        let words = counts.iter().filter(|(_, n)| **n > 0).map(|(word, n)| format!("{word} {n}"));
        let words: Vec<_> = words.collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    print(&format!("store       {}", store.as_deref().unwrap_or("nothing in it yet")));
    print(&format!(
        "slots       {slots} of {} KiB: {} segments, {spare} spare, {set_aside} set aside",
        found.slot_bytes() >> 10,
        segments.len()
    ));
    print(&format!(
        "bytes       {} KiB written, {} KiB of orders still needed, {} KiB of orders that ended",
        bytes >> 10,
        live_bytes >> 10,
        settled_bytes >> 10
    ));
    print(&format!("records     {}", found.records()));
    print(&format!("orders      {}", counts(&status.live)));
    print(&format!("ended       {}", counts(&status.ended)));
    print(&format!(
        "outcomes    {} in {} runs, {} KiB",
        status.outcomes.outcomes,
        status.outcomes.runs,
        status.outcomes.disk_bytes >> 10
    ));
    print(&format!("exceptions  {}", counts(&status.exceptions)));
    let money = status.money_waiting.iter().map(|(currency, sum)| format!("{sum} {currency}"));
    let money: Vec<_> = money.collect();
    print(&format!(
        "money       {}",
        if money.is_empty() { "none waits".to_owned() } else { money.join(", ") }
    ));
    let oldest =
        status.oldest_pending_ms.map(|ms| format!("the oldest pending is {} s old", ms / 1_000));
    print(&format!("oldest      {}", oldest.as_deref().unwrap_or("nothing is pending")));
    for segment in segments {
        print(&format!(
            "segment     epoch {} in {}: {} KiB, {} records in {} groups{}",
            segment.epoch,
            segment.slot,
            segment.bytes >> 10,
            segment.records,
            segment.groups,
            if segment.sealed { ", full" } else { "" }
        ));
    }
    ExitCode::from(EXIT_MET)
}
