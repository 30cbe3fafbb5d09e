//! What the drain is kept to, and what of it a process of a fleet announces to the others.

use forebay_buffer::Announcement;
use forebay_processor::Limits;

use crate::config::{self, Config, OmsKind};

/// This process and its limits, to the others.
pub(crate) fn announcement(config: &Config) -> Announcement {
    Announcement { process: process(), limits: drain(config).common() }
}

/// This process, as people know it.
fn process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "a host without a name",
        host => host,
    };
    format!("{host} pid {}", std::process::id())
}

/// What the drain keeps to.
pub(crate) fn drain(config: &Config) -> Limits {
    let drain = &config.drain;
    Limits {
        ceiling_per_s: drain.governor.then_some(drain.ceiling_per_s),
        burst: drain.burst,
        batch: drain.batch,
        in_flight: drain.in_flight,
        outstanding: (config.oms.kind == OmsKind::Http)
            .then(|| config::outstanding_of(&config.oms)),
        ..Limits::default()
    }
}
