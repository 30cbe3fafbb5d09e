//! What the drain and the calls to the OMS are kept to, and what of it a process of a fleet announces to the others.

use forebay_buffer::Announcement;
use forebay_processor::Limits;
use forebay_processor::oms::http::CallLimits;

use crate::config::{self, Config, OmsKind};

/// This process and its limits, to the others.
pub(crate) fn announcement(config: &Config) -> Announcement {
    let limits = drain(config).common().into_iter().chain(calls(config).common());
    Announcement { process: process(), limits: limits.collect() }
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

/// What calls to an OMS over HTTP are kept to.
pub(crate) fn calls(config: &Config) -> CallLimits {
    let limits = config.oms.limits.as_ref().filter(|_| config.oms.kind == OmsKind::Http);
    let limits = limits.map(|limits| CallLimits {
        calls_per_s: limits.calls_per_s,
        calls_per_day: limits.calls_per_day,
        reserve: f64::from(limits.reserve_percent) / 100.0,
    });
    limits.unwrap_or_default()
}
