//! What can be configured, where each value comes from, and what is refused.
//!
//! Every knob has one name, reachable three ways, the later winning: the file (`drain.ceiling_per_s`), the
//! environment (`FOREBAY_DRAIN__CEILING_PER_S`), a flag for the common ones. Unknown names are errors.
//! The checked-in `config/forebay.toml` lists every knob with its default and why; a test keeps it true.

mod check;
mod sockets;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use forebay_buffer::WriteMode;
use serde::{Deserialize, Serialize};

pub(crate) use check::check;
pub(crate) use sockets::{Sockets, inherited};
pub(crate) use units::{Size, Span};

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
    pub(crate) nats: Nats,
    pub(crate) drain: Drain,
    pub(crate) oms: Oms,
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
}

/// Where orders wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Default: `oms.sqlite` or `oms.ledger` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    pub(crate) test: bool,
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
            nats: Nats::default(),
            drain: Drain::default(),
            oms: Oms::default(),
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
        }
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
            bytes_max: Size(0),
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
        Self { kind: OmsKind::Sqlite, path: None, test: false, cut_every: None, abort_on: None }
    }
}

/// The flags that name knobs; the rest have the file and the environment.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub(crate) struct Flags {
    /// Directory of everything Forebay keeps
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML); every knob is in config/forebay.toml
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Address for orders
    #[arg(long, value_name = "ADDR")]
    #[serde(skip)]
    pub(crate) listen: Option<SocketAddr>,
    /// Address for operators
    #[arg(long, value_name = "ADDR")]
    #[serde(skip)]
    pub(crate) ops_listen: Option<SocketAddr>,
    /// The drain's ceiling in orders a second
    #[arg(long, value_name = "R")]
    #[serde(skip)]
    pub(crate) drain_rate: Option<f64>,
    /// Drain as fast as the OMS takes orders, without a ceiling
    #[arg(long)]
    #[serde(skip)]
    pub(crate) no_governor: bool,
}

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {path:?}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Value(String),
}

/// File, environment and flags, the later winning, over the defaults.
pub(crate) fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = &flags.config {
        figment = figment.merge(Toml::string(&read(path)?));
    }
    let mut environment = Env::prefixed("FOREBAY_").split("__");
    if cfg!(forebay_control) {
        environment = environment.ignore(&["control"]);
    }
    figment = figment.merge(environment).merge(Serialized::defaults(flags));
    let set = |figment: Figment, name: &str, value: Option<String>| match value {
        Some(value) => figment.merge((name, value)),
        None => figment,
    };
    figment = set(figment, "door.listen", flags.listen.map(|a| a.to_string()));
    figment = set(figment, "ops.listen", flags.ops_listen.map(|a| a.to_string()));
    if let Some(rate) = flags.drain_rate {
        figment = figment.merge(("drain.ceiling_per_s", rate));
    }
    if flags.no_governor {
        figment = figment.merge(("drain.governor", false));
    }
    figment.extract().map_err(|error| ConfigError::Value(explain(error, flags.config.as_deref())))
}

/// The promise a control build is to break.
#[cfg(forebay_control)]
pub(crate) fn control() -> Option<String> {
    Env::var("FOREBAY_CONTROL")
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

/// What is wrong, at which name, and where the value came from.
fn explain(error: figment::Error, file: Option<&Path>) -> String {
    let lines: Vec<String> = error
        .into_iter()
        .map(|error| {
            let name = error.path.join(".");
            let place = match error.metadata.as_ref().map(|m| m.name.as_ref()) {
                Some(name) if name.contains("TOML") => {
                    format!("file {:?}", file.unwrap_or(Path::new("forebay.toml")))
                }
                Some(name) if name.contains("nvironment") => "the environment".to_owned(),
                _ => "the flags".to_owned(),
            };
            format!(
                "{}: {} (from {place})",
                if name.is_empty() { "configuration" } else { &name },
                error.kind
            )
        })
        .collect();
    lines.join("\n")
}

impl Config {
    /// The configured channels, or one per format, named like it.
    pub(crate) fn channels(&self) -> BTreeMap<String, Channel> {
        self.channels.clone().unwrap_or_else(default_channels)
    }

    /// Where the OMS keeps its data.
    pub(crate) fn oms_path(&self) -> PathBuf {
        self.oms.path.clone().unwrap_or_else(|| {
            self.data_dir.join(match self.oms.kind {
                OmsKind::Sqlite => "oms.sqlite",
                OmsKind::Ledger => "oms.ledger",
            })
        })
    }
}

fn default_channels() -> BTreeMap<String, Channel> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(text))
            .extract()
            .map_err(|error| explain(error, None))
    }

    #[test]
    fn the_checked_in_file_names_every_knob_with_its_default() {
        let text = std::fs::read_to_string("config/forebay.toml").unwrap();
        let mut config = parse(&text).unwrap();
        let channels = config.channels.take().expect("the file shows the default channels");
        assert_eq!(channels, default_channels());
        assert_eq!(config, Config::default());
        let defaults = figment::value::Value::serialize(Config::default()).unwrap();
        for (section, value) in defaults.as_dict().unwrap() {
            let names: Vec<String> = match value.as_dict() {
                Some(knobs) => knobs.keys().cloned().collect(),
                None => vec![section.clone()],
            };
            for name in names {
                assert!(
                    text.contains(&format!("{name} = ")),
                    "{section}.{name} is not in the file"
                );
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = parse("[drain]\nceilling_per_s = 3.0").unwrap_err();
        assert!(error.contains("ceilling_per_s") && error.contains("drain"), "{error}");
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let error = parse("[buffer]\nslot_bytes = \"64MB\"").unwrap_err();
        assert!(error.contains("buffer.slot_bytes") && error.contains("64MiB"), "{error}");
    }
}
