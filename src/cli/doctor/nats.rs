//! The NATS servers that orders are kept on.

use forebay_buffer::Durability;
use forebay_buffer::nats::{Found, Inspection, NatsConfig, OpenError};
use tokio::runtime::Builder;

use super::super::check::Check;
use crate::config::Config;
use crate::wiring;

/// Bytes that the servers keep in memory for one key, each of them: `cargo xtask bench nats --full`, at one million.
const KEY_BYTES: u64 = 289;

/// What the servers say, or why they say nothing.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let found = wiring::nats(config).and_then(|nats| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let asked: Result<_, OpenError> = runtime.block_on(Inspection::of(&nats));
        asked.map(|found| examine(&nats, &found)).map_err(|error| error.to_string())
    });
    found.unwrap_or_else(|error| {
        vec![Check::fail("nats", error, "`serve` would say the same and end")]
    })
}

fn examine(nats: &NatsConfig, found: &Inspection) -> Vec<Check> {
    let mut checks = match &found.stream {
        Some(stream) => vec![copies(nats, stream), memory(stream), room(stream)],
        None => {
            let finding = format!(
                "there is no stream {} yet; the first start declares it, with {} copies of at most {} MiB",
                nats.stream,
                nats.replicas,
                nats.bytes_max >> 20
            );
            vec![Check::ok("nats", finding)]
        }
    };
    checks.push(sync(nats, found.synced));
    checks.push(fleet(found.differs.as_deref()));
    checks
}

fn fleet(differs: Option<&str>) -> Check {
    let name = "fleet";
    match differs {
        None => Check::ok(name, "every process that drains has these limits"),
        Some(differs) => Check::warn(name, differs, "see docs/fleet.md, \"One ceiling\""),
    }
}

fn copies(nats: &NatsConfig, Found { replication, keys, .. }: &Found) -> Check {
    let (current, replicas) = (replication.current, replication.replicas);
    let finding = format!(
        "stream {}: {keys} keys, {current} of {replicas} copies up to date, led by {}",
        nats.stream,
        replication.leader.as_deref().unwrap_or("nobody")
    );
    let advice = "see which server is away or behind: `nats server report jetstream`";
    match (current == replicas, current >= replication.quorum() && replication.leader.is_some()) {
        (true, true) => Check::ok("nats", finding),
        (false, true) => Check::warn("nats", finding, advice),
        (_, false) => Check::fail("nats", format!("{finding}: nothing can be accepted"), advice),
    }
}

fn memory(Found { keys, bytes, .. }: &Found) -> Check {
    let finding = format!(
        "the keys take about {} MiB of each server's memory, {} MiB of its disk; docs/sizing.md says what others would",
        (keys * KEY_BYTES) >> 20,
        bytes >> 20
    );
    Check::ok("nats memory", finding)
}

fn room(Found { bytes, bytes_max, .. }: &Found) -> Check {
    match bytes_max {
        Some(max) => {
            let finding = format!("{} of {} MiB are used; what is kept free is in it", bytes >> 20, max >> 20);
            Check::ok("nats room", finding)
        }
        None => Check::warn(
            "nats room",
            "the stream has no limit of bytes, so nothing is kept free: once the servers' disks are full, nothing can be settled either".to_owned(),
            "give it one a little below the servers' disks: `nats stream edit STREAM --max-bytes=16GiB`",
        ),
    }
}

fn sync(nats: &NatsConfig, synced: Option<bool>) -> Check {
    let replicas = nats.replicas;
    let durability = Durability::Quorum { needed: replicas / 2 + 1, of: replicas, synced };
    match durability.weakness() {
        None => Check::ok("nats sync", "every server syncs before it acknowledges"),
        Some(weakness) => {
            let (what, mend) = weakness.split_once("; ").unwrap_or((weakness, ""));
            Check::warn("nats sync", format!("{durability}: {what}"), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::nats::Replication;

    use super::super::Level;
    use super::*;

    #[test]
    fn limits_that_differ_are_warned_of() {
        let differs = "drain.ceiling_per_s is 1 in a and 2 in b";
        let inspection = |differs| Inspection { stream: None, synced: Some(true), differs };
        let of = |differs: Option<&str>| {
            let found = inspection(differs.map(str::to_owned));
            examine(&NatsConfig::new([]), &found).pop().unwrap()
        };
        assert_eq!(of(None).level, Level::Ok);
        assert_eq!(of(Some(differs)).level, Level::Warn);
        assert!(of(Some(differs)).finding.contains(differs));
    }

    fn levels(current: usize, leader: Option<&str>, synced: Option<bool>) -> Vec<Level> {
        let replication = Replication { replicas: 3, current, leader: leader.map(str::to_owned) };
        let bytes_max = Some(16 << 30);
        let stream = Some(Found { replication, keys: 7_200_000, bytes: 5 << 30, bytes_max });
        let found = Inspection { stream, synced, differs: None };
        let mut checks = examine(&NatsConfig::new([]), &found);
        checks.truncate(4);
        assert!(checks[1].finding.contains("1984 MiB"), "{}", checks[1].finding);
        checks.iter().map(|check| check.level).collect()
    }

    #[test]
    fn what_could_lose_orders_is_warned_of_and_what_takes_none_fails() {
        let leader = Some("nats-1");
        assert_eq!(levels(3, leader, Some(true)), [Level::Ok, Level::Ok, Level::Ok, Level::Ok]);
        assert_eq!(levels(2, leader, Some(true)), [Level::Warn, Level::Ok, Level::Ok, Level::Ok]);
        assert_eq!(levels(3, leader, None), [Level::Ok, Level::Ok, Level::Ok, Level::Warn]);
        assert_eq!(levels(3, leader, Some(false)), [Level::Ok, Level::Ok, Level::Ok, Level::Warn]);
        assert_eq!(levels(1, leader, Some(true)), [Level::Fail, Level::Ok, Level::Ok, Level::Ok]);
        assert_eq!(levels(2, None, Some(true)), [Level::Fail, Level::Ok, Level::Ok, Level::Ok]);
    }

    #[test]
    fn a_stream_without_a_limit_is_warned_of() {
        let replication = Replication { replicas: 3, current: 3, leader: None };
        let found = |bytes_max| {
            room(&Found { replication: replication.clone(), keys: 1, bytes: 5 << 20, bytes_max })
        };
        assert_eq!(found(Some(64 << 20)).level, Level::Ok);
        assert!(found(Some(64 << 20)).finding.contains("5 of 64 MiB"));
        assert_eq!(found(None).level, Level::Warn);
    }
}
