//! Every knob with its default; `config/forebay.toml` says why it is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use forebay_buffer::WriteMode;
use forebay_processor::oms::http::Rule;
use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::http;
use super::units::{Size, Span};
use super::webhooks::Webhook;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) role: Role,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: String,
    pub(crate) door: Door,
    pub(crate) ops: Ops,
    pub(crate) buffer: Buffer,
    pub(crate) feed: Feed,
    pub(crate) nats: Nats,
    pub(crate) drain: Drain,
    pub(crate) oms: Oms,
    /// Others, by name, that are what `oms` is but for what is set of them; whole once they are loaded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) targets: BTreeMap<String, Oms>,
    /// Who is told what becomes of orders.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) webhooks: BTreeMap<String, Webhook>,
    /// `None`: one channel per format, named like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channels: Option<BTreeMap<String, Channel>>,
}

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Takes orders in and drains them.
    All,
    /// Takes orders in.
    Ingest,
    /// Drains them.
    Process,
}

/// The storefront's door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Door {
    pub(crate) listen: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) connections_max: usize,
    pub(crate) header_timeout: Span,
    pub(crate) body_timeout: Span,
    pub(crate) body_rate_min: Size,
    pub(crate) idle_timeout: Span,
    pub(crate) answer_timeout: Span,
    pub(crate) in_flight_orders: usize,
    pub(crate) in_flight_bytes: Size,
    pub(crate) body_bytes: Size,
    pub(crate) item_bytes: Size,
    pub(crate) items: usize,
    pub(crate) depth: usize,
    pub(crate) lines: usize,
    pub(crate) identity_max: usize,
}

/// The operator's door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ops {
    pub(crate) listen: SocketAddr,
}

/// The durable buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Buffer {
    pub(crate) backend: Backend,
    pub(crate) slot_bytes: Size,
    pub(crate) burst_reserve: u32,
    pub(crate) disk_max: Size,
    pub(crate) write_mode: WriteMode,
    pub(crate) dedup_horizon: Span,
    pub(crate) replay_window: Span,
}

/// What became of orders, for those who read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Feed {
    pub(crate) keep: Size,
}

/// Where orders wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    /// On this machine's disk.
    Embedded,
    /// On a NATS JetStream cluster.
    Nats,
}

/// The NATS JetStream cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nats {
    pub(crate) servers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_password_file: Option<PathBuf>,
    pub(crate) require_fsync: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) roots: Option<PathBuf>,
    pub(crate) stream: String,
    pub(crate) replicas: usize,
    pub(crate) bytes_max: Size,
    pub(crate) partitions: u16,
    pub(crate) lease: Span,
    pub(crate) deadline: Span,
    pub(crate) outcome_ttl: Span,
}

/// The flow to the OMS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drain {
    pub(crate) ceiling_per_s: f64,
    pub(crate) governor: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
    pub(crate) in_flight: usize,
    pub(crate) retry_base: Span,
    pub(crate) retry_max: Span,
    pub(crate) attempts_max: u8,
    pub(crate) grace: Span,
}

/// The order management system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Oms {
    pub(crate) kind: OmsKind,
    /// Sets what is not configured of an OMS that is reached over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preset: Option<String>,
    /// Default: `oms.sqlite` or `oms.ledger` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// Of `kind = "postgres"`: `postgres://user@host:5432/database?sslmode=require`; of "http": `https://oms.example/api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) roots: Option<PathBuf>,
    pub(crate) test: bool,
    /// Of `kind = "http"`, as all that follow: bytes of the longest identity it stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity_max: Option<usize>,
    pub(crate) connect_timeout: Span,
    pub(crate) answer_timeout: Span,
    pub(crate) accept_doubles: bool,
    pub(crate) ticket_deadline: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcomes_secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth: Option<http::Auth>,
    /// Headers of every call, each with the file of its value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) header_files: BTreeMap<String, PathBuf>,
    /// Where a token against forged requests is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csrf_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) create: Option<http::Create>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) find: Option<http::Find>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) list: Option<http::List>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<http::CallLimits>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outcome: Vec<Rule>,
    /// Of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cut_every: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) abort_on: Option<String>,
}

/// Which OMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OmsKind {
    /// The embedded default.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
    /// Reached over HTTP.
    Http,
    /// Append-only, for tests: it refuses no second create, so doubles can be counted.
    Ledger,
}

/// One feed of orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    pub(crate) format: String,
    pub(crate) caller: Caller,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_pointer: Option<String>,
    #[serde(default = "yes")]
    pub(crate) amend: bool,
    #[serde(default)]
    pub(crate) fingerprint_ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quota: Option<Quota>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold_for: Option<Span>,
}

/// How answers are shaped for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Caller {
    /// The sender reads the answer: 4xx for what it must mend.
    Api,
    /// The sender switches itself off after failures: 2xx for everything authentic and durable.
    Webhook,
}

/// What one sender may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quota {
    pub(crate) per_s: u32,
    pub(crate) burst: u32,
}

fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::All,
            data_dir: PathBuf::from("forebay-data"),
            log: "info".to_owned(),
            door: Door::default(),
            ops: Ops::default(),
            buffer: Buffer::default(),
            feed: Feed::default(),
            nats: Nats::default(),
            drain: Drain::default(),
            oms: Oms::default(),
            targets: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            channels: None,
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            threads: 1,
            connections_max: 10_000,
            header_timeout: Span::secs(5),
            body_timeout: Span::secs(10),
            body_rate_min: Size(256 << 10),
            idle_timeout: Span::secs(30),
            answer_timeout: Span::secs(30),
            in_flight_orders: 20_000,
            in_flight_bytes: Size::mib(256),
            body_bytes: Size::mib(16),
            item_bytes: Size::mib(3),
            items: 10_000,
            depth: 64,
            lines: 2_000,
            identity_max: 255,
        }
    }
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            backend: Backend::Embedded,
            slot_bytes: Size::mib(64),
            burst_reserve: 4,
            disk_max: Size::mib(16 << 10),
            write_mode: WriteMode::Auto,
            dedup_horizon: Span::secs(30 * 86_400),
            replay_window: Span::secs(0),
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self { keep: Size::mib(256) }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            user: None,
            password_file: None,
            system_user: None,
            system_password_file: None,
            require_fsync: true,
            roots: None,
            stream: "FOREBAY".to_owned(),
            replicas: 3,
            bytes_max: Size::mib(16 << 10),
            partitions: 16,
            lease: Span::secs(10),
            deadline: Span::secs(10),
            outcome_ttl: Span::secs(86_400),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            ceiling_per_s: 40.0,
            governor: true,
            burst: None,
            batch: None,
            in_flight: 2,
            retry_base: Span::millis(200),
            retry_max: Span::secs(60),
            attempts_max: 5,
            grace: Span::secs(10),
        }
    }
}

impl Default for Oms {
    fn default() -> Self {
        Self {
            kind: OmsKind::Sqlite,
            preset: None,
            path: None,
            url: None,
            password_file: None,
            roots: None,
            test: false,
            identity_max: None,
            connect_timeout: Span::secs(5),
            answer_timeout: Span::secs(30),
            accept_doubles: false,
            ticket_deadline: Span::secs(3_600),
            outcomes_secret_file: None,
            auth: None,
            header_files: BTreeMap::new(),
            csrf_path: None,
            create: None,
            find: None,
            list: None,
            claim: None,
            limits: None,
            outcome: Vec::new(),
            cut_every: None,
            abort_on: None,
        }
    }
}

impl Config {
    /// The configured channels, or one per format, named like it.
    pub(crate) fn channels(&self) -> BTreeMap<String, Channel> {
        self.channels.clone().unwrap_or_else(default_channels)
    }

    /// The file the OMS keeps its data in, if it is one.
    pub(crate) fn oms_path(&self) -> Option<PathBuf> {
        let name = match self.oms.kind {
            OmsKind::Sqlite => "oms.sqlite",
            OmsKind::Ledger => "oms.ledger",
            OmsKind::Postgres | OmsKind::Http => return None,
        };
        Some(self.oms.path.clone().unwrap_or_else(|| self.data_dir.join(name)))
    }
}

pub(super) fn default_channels() -> BTreeMap<String, Channel> {
    use forebay_order::Format;
    Format::ALL
        .into_iter()
        .map(|format| {
            let caller = match format {
                Format::Shopify | Format::WooCommerce => Caller::Webhook,
                Format::Salesforce | Format::B2cCommerceXml | Format::Forebay => Caller::Api,
            };
            let channel = Channel {
                format: format.name().to_owned(),
                caller,
                source: Some("demo".to_owned()),
                source_header: Some("Forebay-Source".to_owned()),
                source_pointer: None,
                amend: true,
                fingerprint_ignore: Vec::new(),
                quota: None,
                hold_for: None,
            };
            (format.name().to_owned(), channel)
        })
        .collect()
}
