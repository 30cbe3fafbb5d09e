//! What a configuration must satisfy before a port is opened, and what it promises in words.

use forebay_order::Format;
use forebay_processor::governor::CEILING_MAX;

use super::{Backend, Config, OmsKind, Role, Size, Span, claim, http, secrets, targets};

/// A configuration that can run: what it promises, and what a person should know.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Sentences that hold with this configuration.
    pub(crate) promises: Vec<String>,
    /// Things that are allowed but deserve a look.
    pub(crate) warnings: Vec<String>,
}

/// Checks values against each other.
///
/// # Errors
/// Every fault found, each saying which knob, why, and what to write instead.
pub(crate) fn check(config: &Config) -> Result<Checked, Vec<String>> {
    let mut faults = Vec::new();
    let mut must = |ok: bool, fault: &str| {
        if !ok {
            faults.push(fault.to_owned());
        }
    };
    must(
        config.door.listen.ip().is_loopback(),
        "door.listen: channels have no credentials yet, so orders are taken on loopback only; use 127.0.0.1 or [::1]",
    );
    must(
        config.ops.listen.ip().is_loopback(),
        "ops.listen: operators have no credentials yet; use 127.0.0.1 or [::1]",
    );
    let drain = &config.drain;
    must(
        drain.ceiling_per_s > 0.0 && drain.ceiling_per_s <= CEILING_MAX,
        "drain.ceiling_per_s: must be above 0 and at most 1000000; to stop the drain is not a rate",
    );
    must(
        drain.batch.is_none_or(|batch| (1..=1_000).contains(&batch)),
        "drain.batch: must be 1 to 1000; leave it out for the default",
    );
    must(drain.in_flight > 0 && drain.in_flight <= 1_000, "drain.in_flight: must be 1 to 1000");
    must(drain.attempts_max > 0, "drain.attempts_max: must be at least 1");
    must(drain.burst != Some(0), "drain.burst: must be at least 1; leave it out for the default");
    must(
        drain.retry_base <= drain.retry_max,
        "drain.retry_base: must not be above drain.retry_max",
    );
    let door = &config.door;
    must(door.threads > 0 && door.threads <= 256, "door.threads: must be 1 to 256");
    must(door.connections_max > 0, "door.connections_max: must be at least 1");
    must(door.in_flight_orders > 0, "door.in_flight_orders: must be at least 1");
    must(door.item_bytes <= door.body_bytes, "door.item_bytes: must not be above door.body_bytes");
    must(
        door.body_bytes.0.saturating_mul(2) <= door.in_flight_bytes.0,
        "door.in_flight_bytes: must be at least twice door.body_bytes, or no full batch can be taken in",
    );
    must(
        door.item_bytes.0 <= (3 << 20) + (1 << 19),
        "door.item_bytes: must be at most 3584KiB; an order and its record must fit one journal group of 4 MiB",
    );
    must(door.identity_max > 0 && door.identity_max <= 255, "door.identity_max: must be 1 to 255");
    must(door.body_rate_min.0 > 0, "door.body_rate_min: must be above 0");
    must(door.depth > 0 && door.depth <= 128, "door.depth: must be 1 to 128; more is never read");
    let buffer = &config.buffer;
    must(
        buffer.slot_bytes.0 >= 1 << 20
            && buffer.slot_bytes.0 <= 1 << 30
            && buffer.slot_bytes.0.is_multiple_of(4096),
        "buffer.slot_bytes: must be 1MiB to 1GiB and a multiple of 4KiB",
    );
    must(
        door.item_bytes.0.saturating_add(1 << 19) <= buffer.slot_bytes.0,
        "buffer.slot_bytes: must be at least 512KiB more than door.item_bytes; a larger order would never fit a slot",
    );
    must(
        buffer.disk_max.0 / buffer.slot_bytes.0.max(1) >= u64::from(buffer.burst_reserve) + 4,
        "buffer.disk_max: must hold at least burst_reserve + 4 slots of slot_bytes",
    );
    must(
        config.feed.keep.0 == 0 || config.feed.keep.0 >= 2 << 20,
        "feed.keep: must be at least 2MiB, or 0B for no feed",
    );
    must(
        config.oms.cut_every.is_none() || config.oms.kind == OmsKind::Ledger,
        "oms.cut_every: only the ledger OMS can cut answers",
    );
    must(
        config.oms.abort_on.is_none() || config.oms.kind == OmsKind::Ledger,
        "oms.abort_on: only the ledger OMS ends the process on purpose",
    );
    must(
        config.oms.abort_on.as_deref() != Some(""),
        "oms.abort_on: must not be empty, or every order ends the process",
    );
    must(
        config.oms.kind != OmsKind::Ledger || config.oms.test,
        "oms.kind: the ledger is for tests only and needs oms.test = true",
    );
    let oms = &config.oms;
    let on_postgres = oms.kind == OmsKind::Postgres;
    let on_http = oms.kind == OmsKind::Http;
    must(
        on_http || on_postgres == oms.url.is_some(),
        "oms.url: says where the database of oms.kind = \"postgres\" is; set both or none",
    );
    must(
        oms.url.as_deref().is_none_or(|url| !holds_password(url)),
        "oms.url: must hold no password, which would be shown; put it into a file and set oms.password_file",
    );
    must(
        on_postgres || oms.password_file.is_none(),
        "oms.password_file: only for oms.kind = \"postgres\"",
    );
    must(
        on_postgres || on_http || oms.roots.is_none(),
        "oms.roots: only for oms.kind = \"postgres\" and \"http\"",
    );
    must(
        !(on_postgres || on_http) || oms.path.is_none(),
        "oms.path: this kind of OMS has none; set oms.url",
    );
    let nats = &config.nats;
    let on_nats = config.buffer.backend == Backend::Nats;
    must(
        on_nats || config.role == Role::All,
        "role: a process that only takes orders in, or only drains, needs buffer.backend = \"nats\"",
    );
    must(!nats.servers.is_empty(), "nats.servers: at least one is needed");
    must(
        nats.user.is_some() == nats.password_file.is_some(),
        "nats.user: goes with nats.password_file; set both or none",
    );
    must(
        nats.system_user.is_some() == nats.system_password_file.is_some(),
        "nats.system_user: goes with nats.system_password_file; set both or none",
    );
    must(
        !nats.stream.is_empty()
            && nats.stream.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "nats.stream: must have letters, digits, \"-\" and \"_\" only",
    );
    must((1..=5).contains(&nats.replicas), "nats.replicas: must be 1 to 5; 3 outlive one server");
    must((1..=1_024).contains(&nats.partitions), "nats.partitions: must be 1 to 1024");
    must(
        nats.lease >= Span::secs(2) && nats.lease <= Span::secs(300),
        "nats.lease: must be 2s to 5m; shorter ones are lost to a busy moment",
    );
    must(
        nats.deadline >= Span::secs(1) && nats.deadline <= Span::secs(60),
        "nats.deadline: must be 1s to 1m",
    );
    must(
        nats.bytes_max.0 == 0 || nats.bytes_max >= Size::mib(32),
        "nats.bytes_max: must be at least 32MiB, or 0B for a stream that is there",
    );
    must(nats.outcome_ttl >= Span::secs(60), "nats.outcome_ttl: must be at least 1m");
    must(
        buffer.replay_window <= if on_nats { nats.outcome_ttl } else { buffer.dedup_horizon },
        "buffer.replay_window: must not be longer than orders are remembered (buffer.dedup_horizon, on NATS nats.outcome_ttl)",
    );
    let wait = |span: Span| span >= Span::millis(1) && span <= Span::secs(300);
    must(wait(oms.connect_timeout), "oms.connect_timeout: must be 1ms to 5m");
    must(wait(oms.answer_timeout), "oms.answer_timeout: must be 1ms to 5m");
    faults.extend(http::faults(oms));
    faults.extend(secrets::faults(oms));
    let of_targets = targets::faults(config, &faults);
    faults.extend(of_targets);
    faults.extend(config.webhooks.iter().flat_map(|(name, webhook)| webhook.faults(name)));
    if !on_nats && config.feed.keep.0 == 0 && !config.webhooks.is_empty() {
        faults
            .push("feed.keep: webhooks tell what the feed does; set it to 2MiB or more".to_owned());
    }
    let mut warnings = Vec::new();
    if let Some(preset) = &oms.preset {
        warnings.push(format!(
            "oms.preset: {preset} is written from public documentation, not verified; try it with forebay oms verify on a sandbox"
        ));
    }
    warnings.extend(secrets::warnings(oms));
    warnings.extend(http::lost_tickets(oms));
    let of_targets = targets::warnings(config, &warnings);
    warnings.extend(of_targets);
    warnings.extend(claim::warning(oms));
    if on_nats && nats.bytes_max.0 == 0 {
        warnings.push(
            "nats.bytes_max: with 0B no stream is made, and one that is there keeps the limit it has; where that is none, nothing keeps room free"
                .to_owned(),
        );
    }
    if on_nats && nats.replicas < 3 {
        warnings.push(
            "nats.replicas: fewer than 3 copies do not outlive the loss of one server".to_owned(),
        );
    }
    if config.channels().is_empty() {
        faults.push("channels: at least one is needed".to_owned());
    }
    for (name, channel) in config.channels() {
        if Format::from_name(&channel.format).is_none() {
            let known: Vec<_> = Format::ALL.iter().map(|f| f.name()).collect();
            faults.push(format!(
                "channels.{name}.format: {:?} is not known; known are {}",
                channel.format,
                known.join(", ")
            ));
        }
        let given = [&channel.source, &channel.source_header, &channel.source_pointer];
        if given.iter().all(|rule| rule.is_none()) {
            faults.push(format!(
                "channels.{name}.source: say which shop, site or tenant this is (source, source_header or source_pointer), \
                 or two shops with equal ids become one order"
            ));
        }
        if channel.source_pointer.is_some() && channel.format == Format::B2cCommerceXml.name() {
            faults.push(format!("channels.{name}.source_pointer: XML has no JSON pointer; use source or source_header"));
        }
        if channel.source_pointer.as_deref().is_some_and(|pointer| !pointer.starts_with('/')) {
            faults.push(format!("channels.{name}.source_pointer: must start with \"/\""));
        }
        if channel.quota.is_some_and(|quota| quota.per_s == 0 || quota.burst == 0) {
            faults.push(format!("channels.{name}.quota: per_s and burst must be above 0"));
        }
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            faults.push(format!(
                "channels.{name}: a name has letters, digits, \"-\", \"_\" and \".\" only"
            ));
        }
    }
    if !config.drain.governor {
        warnings.push(
            "drain.governor = false: the OMS is sent orders as fast as it takes them".to_owned(),
        );
    }
    if faults.is_empty() {
        Ok(Checked { promises: promises(config), warnings })
    } else {
        Err(faults)
    }
}

/// Whether an address of a database holds a password: before its host, or among its parameters.
fn holds_password(url: &str) -> bool {
    let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    user.is_some_and(|(user, _)| user.contains(':')) || url.contains("password=")
}

fn promises(config: &Config) -> Vec<String> {
    let guarantee = match config.oms.kind {
        OmsKind::Sqlite | OmsKind::Postgres => forebay_processor::Guarantee::UniqueId,
        OmsKind::Ledger => forebay_processor::Guarantee::LookedUp,
        OmsKind::Http => http::guarantee(&config.oms),
    };
    let rate = if config.drain.governor {
        format!("at most {} orders/s reach the OMS", config.drain.ceiling_per_s)
    } else {
        "no ceiling is kept".to_owned()
    };
    let (durable, remembered) = match config.buffer.backend {
        Backend::Embedded => (
            "a 2xx means fsync(this disk); the death of this disk loses what is pending on it"
                .to_owned(),
            config.buffer.dedup_horizon,
        ),
        Backend::Nats => {
            let of = config.nats.replicas;
            let words = format!(
                "a 2xx means that {} of {of} NATS servers have it; whether they sync it first is theirs to say (sync_interval)",
                of / 2 + 1
            );
            (words, config.nats.outcome_ttl)
        }
    };
    let mut promises = vec![
        durable,
        format!("one order, one summary ({})", guarantee.words()),
        rate,
        format!("the first answer of an order is kept for {remembered}"),
    ];
    if config.oms.kind == OmsKind::Http {
        promises.push(http::tickets(&config.oms));
    }
    if claim::note(&config.oms).is_some() {
        promises.push("the OMS keeps whose orders are drained to it; the first drain begins three minutes after its claim".to_owned());
    }
    promises
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_run() {
        let checked = check(&Config::default()).unwrap();
        assert!(checked.promises.iter().any(|p| p.contains("once: unique id")));
    }

    #[test]
    fn a_database_is_named_with_its_kind_and_without_its_password() {
        let mut config = Config::default();
        config.oms.kind = OmsKind::Postgres;
        assert!(check(&config).unwrap_err()[0].starts_with("oms.url"));
        config.oms.url = Some("postgres://forebay@db:5432/oms?sslmode=require".to_owned());
        assert!(check(&config).is_ok());
        for url in ["postgres://forebay:secret@db/oms", "host=db user=forebay password=secret"] {
            config.oms.url = Some(url.to_owned());
            let faults = check(&config).unwrap_err();
            assert!(
                faults[0].contains("password_file") && !faults[0].contains("secret"),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_stream_has_a_limit_unless_it_is_there_already() {
        let mut config = Config::default();
        config.buffer.backend = Backend::Nats;
        let warned = |config: &Config| {
            let warnings = check(config).unwrap().warnings;
            warnings.iter().any(|warning| warning.starts_with("nats.bytes_max"))
        };
        assert!(!warned(&config), "the default is one");
        config.nats.bytes_max = Size(0);
        assert!(warned(&config));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut config = Config::default();
        config.door.listen = "0.0.0.0:80".parse().unwrap();
        config.drain.ceiling_per_s = 0.0;
        config.oms.cut_every = Some(2);
        config.oms.abort_on = Some("poison".to_owned());
        config.door.depth = 129;
        config.buffer.slot_bytes = Size::mib(3);
        config.nats.bytes_max = Size::mib(31);
        config.oms.answer_timeout = Span::secs(0);
        let faults = check(&config).unwrap_err();
        for name in [
            "door.listen",
            "drain.ceiling_per_s",
            "oms.cut_every",
            "oms.abort_on",
            "door.depth",
            "buffer.slot_bytes",
            "nats.bytes_max",
            "oms.answer_timeout",
        ] {
            assert!(faults.iter().any(|fault| fault.starts_with(name)), "{name}: {faults:?}");
        }
    }
}
