//! What can be configured, where each value comes from, and what is refused.
//!
//! Every knob has one name, reachable three ways, the later winning: the file (`drain.ceiling_per_s`), the
//! environment (`FOREBAY_DRAIN__CEILING_PER_S`), a flag for the common ones. Unknown names are errors.
//! The checked-in `config/forebay.toml` lists every knob with its default and why; a test keeps it true.

mod check;
mod claim;
mod http;
mod knobs;
mod preset;
mod secrets;
mod sockets;
mod targets;
mod units;
mod webhooks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::Serialize;

pub(crate) use check::check;
pub(crate) use claim::note as claim_note;
pub(crate) use http::under_way;
pub(crate) use http::{Auth, outstanding_of};
pub(crate) use knobs::{Backend, Caller, Channel, Config, OmsKind, Role};
pub(crate) use preset::body as preset_body;
pub(crate) use sockets::{Sockets, inherited};
pub(crate) use units::{Size, Span};

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
    let mut figment = Figment::new();
    if let Some(path) = &flags.config {
        figment = figment.merge(Toml::string(&read(path)?));
    }
    let mut environment = Env::prefixed("FOREBAY_").split("__");
    if cfg!(forebay_control) {
        environment = environment.ignore(&["control", "ends_at"]);
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
    let figment = targets::over_oms(figment).map_err(ConfigError::Value)?;
    let configured = preset::below(figment).map_err(ConfigError::Value)?;
    let config = Figment::from(Serialized::defaults(Config::default())).merge(configured);
    config.extract().map_err(|error| ConfigError::Value(explain(error, flags.config.as_deref())))
}

/// The promise a control build is to break.
#[cfg(forebay_control)]
pub(crate) fn control() -> Option<String> {
    Env::var("FOREBAY_CONTROL")
}

/// The step at which a control build is to end itself.
#[cfg(forebay_control)]
pub(crate) fn ends_at() -> Option<String> {
    Env::var("FOREBAY_ENDS_AT")
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
            // What is laid over [oms] is of both.
            let target = error.path.first().is_some_and(|first| first == "targets");
            let place = match error.metadata.as_ref().map(|m| m.name.as_ref()) {
                Some(name) if name.contains("TOML") => {
                    format!("file {:?}", file.unwrap_or(Path::new("forebay.toml")))
                }
                Some(name) if name.contains("nvironment") => "the environment".to_owned(),
                _ if target => "the file or the environment".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::knobs::default_channels;
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
