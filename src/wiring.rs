//! From the configuration to each room's own settings; one `match` picks each backend.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::nats::{Login, NatsConfig};
use forebay_buffer::{Clock, EmbeddedConfig};
use forebay_ingest::{Channel, DoorConfig, SourceRule};
use forebay_ops::{DrainStatus, webhooks};
use forebay_order::{Format, Limits};
use forebay_processor::oms::http::{Auth, ClaimNote, Create, Find, Http, HttpOptions, List};
use forebay_processor::oms::ledger::{Ledger, LedgerOptions};
use forebay_processor::oms::postgres::{Postgres, PostgresOptions};
use forebay_processor::oms::sqlite::{Sqlite, SqliteOptions};
use forebay_processor::{DrainConfig, Governor, Limiter, Oms, RetryPolicy};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Backend, Caller, Config, OmsKind, Role};
use crate::limits;

/// Seconds; every histogram of ours is a duration.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// At a hundred thousand orders a second this keeps what is not folded yet under 10 MB.
const METRICS_PAUSE: Duration = Duration::from_secs(2);

/// Logs go to stderr; stdout is for data.
pub(crate) fn log_to_stderr(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init()
        .map_err(|error| error.to_string())
}

/// Installs the recorder every crate's `metrics.rs` writes to.
pub(crate) fn record_metrics() -> Result<PrometheusHandle, String> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(|builder| builder.install_recorder())
        .map_err(|error| format!("metrics: {error}"))
}

/// Folds what was measured into the buckets now and then: between two scrapes, or where nobody scrapes, every
/// measurement would be kept.
pub(crate) async fn keep_metrics_small(metrics: PrometheusHandle) {
    let mut turns = tokio::time::interval(METRICS_PAUSE);
    loop {
        turns.tick().await;
        let metrics = metrics.clone();
        // It fails only when the runtime ends.
        tokio::task::spawn_blocking(move || metrics.run_upkeep()).await.ok();
    }
}

/// The key of the e-mail lookup hash of a buffer on this disk: made once per data directory, never leaves it.
pub(crate) fn lookup_key(data_dir: &Path) -> Result<[u8; 32], String> {
    let path = data_dir.join("lookup.key");
    let explain = |error: std::io::Error| format!("cannot keep {}: {error}", path.display());
    std::fs::create_dir_all(data_dir).map_err(explain)?;
    if let Ok(key) = std::fs::read(&path) {
        return key.try_into().map_err(|_| {
            format!(
                "{} is not 32 bytes; remove it to make a new one (lookups of older orders end)",
                path.display()
            )
        });
    }
    let mut key = [0; 32];
    let mut random = std::fs::File::open("/dev/urandom").map_err(explain)?;
    std::io::Read::read_exact(&mut random, &mut key).map_err(explain)?;
    write_lookup_key(&path, key).map_err(explain)?;
    Ok(key)
}

/// Keeps the key of another store's e-mail lookup hash in a data directory that takes its orders in.
pub(crate) fn keep_lookup_key(data_dir: &Path, key: [u8; 32]) -> Result<(), String> {
    let path = data_dir.join("lookup.key");
    write_lookup_key(&path, key).map_err(|error| format!("cannot keep {}: {error}", path.display()))
}

fn write_lookup_key(path: &Path, key: [u8; 32]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create(true).truncate(true).open(&fresh)?;
    std::io::Write::write_all(&mut file, &key)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    // The OMS knows the fleet by it: it must not be another one after a power cut.
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(dir)?.sync_all()?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The settings of a buffer on this machine's disk.
pub(crate) fn embedded(config: &Config) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: config.data_dir.join("buffer"),
        slot_bytes: config.buffer.slot_bytes.0,
        burst_reserve: config.buffer.burst_reserve,
        disk_max: config.buffer.disk_max.0,
        write_mode: config.buffer.write_mode,
        feed_bytes: config.feed.keep.0,
        dedup_horizon: config.buffer.dedup_horizon.0,
        replay_window: config.buffer.replay_window.0,
        in_flight_orders: config.door.in_flight_orders,
        in_flight_bytes: config.door.in_flight_bytes.bytes(),
    }
}

/// The settings of a buffer on NATS.
pub(crate) fn nats(config: &Config) -> Result<NatsConfig, String> {
    let nats = &config.nats;
    Ok(NatsConfig {
        login: login("nats.password_file", &nats.user, &nats.password_file)?
            .unwrap_or(Login::Nobody),
        system: login("nats.system_password_file", &nats.system_user, &nats.system_password_file)?,
        require_fsync: nats.require_fsync,
        seen: Some(config.data_dir.join("nats.seen")),
        roots: nats.roots.clone(),
        stream: nats.stream.clone(),
        replicas: nats.replicas,
        bytes_max: nats.bytes_max.0,
        deadline: nats.deadline.0,
        partitions: nats.partitions,
        drains: config.role != Role::Ingest,
        lease: nats.lease.0,
        lent_wait: config::under_way(&config.oms),
        announcement: limits::announcement(config),
        dedup_horizon: nats.outcome_ttl.0,
        replay_window: config.buffer.replay_window.0,
        order_bytes: config.door.item_bytes.bytes(),
        in_flight_orders: config.door.in_flight_orders,
        in_flight_bytes: config.door.in_flight_bytes.bytes(),
        ..NatsConfig::new(nats.servers.iter().cloned())
    })
}

/// Who somebody is, with the password from its file.
fn login(
    knob: &str,
    user: &Option<String>,
    password_file: &Option<PathBuf>,
) -> Result<Option<Login>, String> {
    let (Some(name), Some(path)) = (user, password_file) else { return Ok(None) };
    let password = std::fs::read_to_string(path)
        .map_err(|error| format!("{knob}: {}: {error}", path.display()))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Some(Login::User { name: name.clone(), password }))
}

/// The OMS, opened.
pub(crate) fn oms(config: &Config, clock: &Arc<dyn Clock>) -> Result<Oms, String> {
    let path = config.oms_path().unwrap_or_default();
    let explain = |error: &dyn std::fmt::Display| {
        format!("cannot open the OMS at {}: {error}", path.display())
    };
    let clock = Arc::clone(clock);
    match config.oms.kind {
        OmsKind::Sqlite => {
            let options = SqliteOptions { test: config.oms.test, ..SqliteOptions::default() };
            Sqlite::open(&path, options, clock).map(Oms::Sqlite).map_err(|e| explain(&e))
        }
        OmsKind::Postgres => {
            let opened = Postgres::open(&postgres(config)?, clock);
            opened.map(Oms::Postgres).map_err(|error| error.to_string())
        }
        OmsKind::Http => {
            let kept = config.data_dir.join("oms.calls");
            let opened = Http::open(HttpOptions { calls_kept: Some(kept), ..http(config)? });
            opened.map(Oms::Http).map_err(|error| error.to_string())
        }
        OmsKind::Ledger => {
            let oms = &config.oms;
            let options =
                LedgerOptions { cut_every: oms.cut_every, abort_on: oms.abort_on.clone() };
            Ledger::open(&path, options, clock).map(Oms::Ledger).map_err(|e| explain(&e))
        }
    }
}

/// The settings of a PostgreSQL database.
pub(crate) fn postgres(config: &Config) -> Result<PostgresOptions, String> {
    let oms = &config.oms;
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("oms.password_file: {}: {error}", path.display()))?;
        Ok::<_, String>(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    Ok(PostgresOptions {
        url: oms.url.clone().ok_or("oms.url: is missing")?,
        password: oms.password_file.as_ref().map(read).transpose()?,
        roots: oms.roots.clone(),
        test: oms.test,
        // One for each call of the drain, and one for whoever looks meanwhile.
        connections: config.drain.in_flight + 1,
        answer_timeout: oms.answer_timeout.0,
    })
}

/// The longest identity of an OMS that does not say it.
const IDENTITY_MAX: usize = 255;

/// The settings of an OMS that is reached over HTTP.
pub(crate) fn http(config: &Config) -> Result<HttpOptions, String> {
    let oms = &config.oms;
    let create = oms.create.clone().ok_or("oms.create: is missing")?;
    let template = |knob: &str, path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|error| format!("{knob}: {}: {error}", path.display()))
    };
    let body = create.body.as_ref().map(|path| template("oms.create.body", path)).transpose()?;
    let claim = config::claim_note(oms);
    let claim_body = claim.and_then(|claim| claim.body.as_ref());
    let claim_body = claim_body.map(|path| template("oms.claim.body", path)).transpose()?;
    let of_preset = || oms.preset.as_deref().and_then(config::preset_body).map(str::to_owned);
    Ok(HttpOptions {
        url: oms.url.clone().ok_or("oms.url: is missing")?,
        roots: oms.roots.clone(),
        test: oms.test,
        connections: config.drain.in_flight + 1,
        identity_max: oms.identity_max.unwrap_or(IDENTITY_MAX),
        connect_timeout: oms.connect_timeout.0,
        answer_timeout: oms.answer_timeout.0,
        auth: oms.auth.clone().map_or(Auth::Nobody, auth),
        header_files: oms.header_files.clone(),
        csrf_path: oms.csrf_path.clone(),
        create: Create {
            method: create.method,
            path: create.path,
            headers: create.headers,
            body: body.or_else(of_preset),
            values: create.values,
            batch: create.batch,
            bytes: create.bytes.bytes(),
            idempotency_header: create.idempotency_header,
            refuses_second: create.refuses_second,
            answers: create.answers,
        },
        find: oms.find.clone().map(|find| Find {
            url: find.url,
            path: find.path,
            batch: find.batch,
            items: find.items,
            identity: find.identity,
            id: find.id,
            fingerprint: find.fingerprint,
            visible_after: find.visible_after.0,
        }),
        list: oms.list.clone().map(|list| List { path: list.path, items: list.items }),
        claim: claim.cloned().map(|claim| ClaimNote {
            url: claim.url,
            path: claim.path,
            method: claim.method,
            write_path: claim.write_path,
            body: claim_body,
            fleet: claim.fleet,
            since_ms: claim.since_ms,
        }),
        rules: oms.outcome.clone(),
        limits: limits::calls(config),
        calls_kept: None,
    })
}

fn auth(auth: config::Auth) -> Auth {
    match auth {
        config::Auth::Bearer { token_file } => Auth::Bearer { token_file },
        config::Auth::Basic { user, password_file } => Auth::Basic { user, password_file },
        config::Auth::ClientCredentials {
            token_url,
            client_id_file,
            client_secret_file,
            scope,
        } => Auth::ClientCredentials { token_url, client_id_file, client_secret_file, scope },
    }
}

/// Its kind in the configuration's word.
pub(crate) fn oms_word(kind: OmsKind) -> &'static str {
    match kind {
        OmsKind::Sqlite => "sqlite",
        OmsKind::Postgres => "postgres",
        OmsKind::Http => "http",
        OmsKind::Ledger => "ledger",
    }
}

/// The drain's settings.
pub(crate) fn drain(config: &Config, fleet: &str) -> DrainConfig {
    let drain = &config.drain;
    DrainConfig {
        limits: limits::drain(config),
        retry: RetryPolicy { base: drain.retry_base.0, max: drain.retry_max.0 },
        attempts_max: drain.attempts_max,
        remembered: match config.buffer.backend {
            Backend::Embedded => config.buffer.dedup_horizon.0,
            Backend::Nats => config.nats.outcome_ttl.0,
        },
        fleet: Some(fleet.to_owned()),
        ticket_deadline: config.oms.ticket_deadline.0,
        ..DrainConfig::default()
    }
}

/// The drain as operators see it; there is none where this process only takes orders in.
pub(crate) fn drain_status(governor: Option<&Governor>) -> DrainStatus {
    let Some(governor) = governor else { return DrainStatus::OFF };
    let state = governor.state();
    DrainStatus {
        mode: if state.limiter == Limiter::Paused { "paused" } else { "on" },
        ceiling_per_s: state.ceiling_per_s,
        share: state.share,
        burst: state.burst,
        batch: state.batch,
        in_flight: state.in_flight,
        outstanding: state.outstanding,
        outstanding_max: state.outstanding_max,
        limiter: state.limiter.word(),
        why: state.why,
    }
}

/// The webhooks' settings.
pub(crate) fn webhooks(config: &Config, lookup_key: &[u8; 32]) -> webhooks::Settings {
    webhooks::Settings {
        directory: config.data_dir.join("webhooks"),
        store: webhooks::store_name(lookup_key),
        endpoints: config.webhooks.iter().map(|(name, webhook)| webhook.options(name)).collect(),
    }
}

/// The storefront's door's settings.
pub(crate) fn door(config: &Config) -> Result<DoorConfig, String> {
    let door = &config.door;
    Ok(DoorConfig {
        listen: door.listen,
        threads: door.threads,
        connections_max: door.connections_max,
        header_timeout: door.header_timeout.0,
        body_timeout: door.body_timeout.0,
        body_rate_min: door.body_rate_min.0,
        idle_timeout: door.idle_timeout.0,
        answer_timeout: door.answer_timeout.0,
        body_bytes: door.body_bytes.bytes(),
        limits: Limits {
            item_bytes: door.item_bytes.bytes(),
            items: door.items,
            depth: door.depth,
            lines: door.lines,
        },
        identity_max: door.identity_max,
        channels: config.channels().into_iter().map(channel).collect::<Result<_, _>>()?,
    })
}

fn channel((name, channel): (String, config::Channel)) -> Result<Channel, String> {
    let format = Format::from_name(&channel.format)
        .ok_or_else(|| format!("channels.{name}.format: {:?} is not known", channel.format))?;
    let source = match (channel.source_pointer, channel.source_header, channel.source) {
        (Some(pointer), _, default) => SourceRule::Pointer { pointer, default },
        (None, Some(header), default) => SourceRule::Header {
            name: header.parse().map_err(|_| {
                format!("channels.{name}.source_header: {header:?} is no name of a header")
            })?,
            default,
        },
        (None, None, Some(source)) => SourceRule::Constant(source),
        (None, None, None) => return Err(format!("channels.{name}.source: is missing")),
    };
    let positive = |n: u32| {
        NonZeroU32::new(n).ok_or_else(|| format!("channels.{name}.quota: must be above 0"))
    };
    let quota = match channel.quota {
        Some(quota) => Some(forebay_ingest::Quota {
            per_s: positive(quota.per_s)?,
            burst: positive(quota.burst)?,
        }),
        None => None,
    };
    let caller = match channel.caller {
        Caller::Api => forebay_ingest::Caller::Api,
        Caller::Webhook => forebay_ingest::Caller::Webhook,
    };
    let hold_for: Option<Duration> = channel.hold_for.map(|span| span.0);
    Ok(Channel {
        name,
        format,
        caller,
        source,
        amend: channel.amend,
        fingerprint_ignore: channel.fingerprint_ignore,
        quota,
        hold_for,
    })
}
