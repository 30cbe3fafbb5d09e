//! What the door is told when it opens.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use forebay_order::{Format, Limits};
use http::HeaderName;

/// Everything the door can be told. [`DoorConfig::default`] is what runs without a configuration file.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Where to listen; port 0 picks a free one. Loopback only, until channels have credentials.
    pub listen: SocketAddr,
    /// Accept threads, each with its own runtime; at least 1.
    pub threads: usize,
    /// Connections at once over all threads; a further one is told 503 and closed.
    pub connections_max: usize,
    /// From a connection's start, or a request's first byte, to the end of its headers.
    pub header_timeout: Duration,
    /// For a whole body; each [`DoorConfig::body_rate_min`] bytes that arrive give one second more.
    pub body_timeout: Duration,
    /// The slowest a long body may come, in bytes a second.
    pub body_rate_min: u64,
    /// How long a connection may be kept open between requests.
    pub idle_timeout: Duration,
    /// How long the sender may take to read its answer.
    pub answer_timeout: Duration,
    /// Bytes of one body, as received and as inflated.
    pub body_bytes: usize,
    /// Limits within a body.
    pub limits: Limits,
    /// Bytes of an order's joined identity (`channel:source:id`, percent-encoded).
    pub identity_max: usize,
    /// The configured feeds.
    pub channels: Vec<Channel>,
}

/// One configured feed of orders.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its name in paths, keys and metrics: ASCII letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its bodies look like.
    pub format: Format,
    /// Who calls.
    pub caller: Caller,
    /// Where the source part of the key comes from.
    pub source: SourceRule,
    /// Whether a newer version replaces a pending order; otherwise it is a conflict.
    pub amend: bool,
    /// Members that never count for the fingerprint, besides the format's own.
    pub fingerprint_ignore: Vec<String>,
    /// What the sender may send; none is no limit of its own.
    pub quota: Option<Quota>,
    /// How long each order is kept before it may be drained.
    pub hold_for: Option<Duration>,
}

/// How a channel's sender takes answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Reads them: 409, 422 and 400 mean something to it.
    Api,
    /// Counts them: anything but 2xx is a failure, and after some it switches itself off.
    Webhook,
}

/// Where the source part (shop, site, tenant) of a key comes from.
#[derive(Clone, Debug)]
pub enum SourceRule {
    /// Always this.
    Constant(String),
    /// A request header; `default` where the request has none.
    Header {
        /// The header.
        name: HeaderName,
        /// What stands in for a missing header; without it the delivery is refused.
        default: Option<String>,
    },
    /// A JSON pointer within the item; `default` where it points at nothing.
    Pointer {
        /// RFC 6901.
        pointer: String,
        /// What stands in for a missing value; without it the delivery is refused.
        default: Option<String>,
    },
}

/// Orders a sender may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// A second, on average.
    pub per_s: NonZeroU32,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is reachable from other machines.
    #[error(
        "door: {0} is reachable from other machines, and channels have no credentials yet; listen on 127.0.0.1 or [::1] and put a proxy that authenticates in front"
    )]
    NotLoopback(SocketAddr),
    /// A channel's configuration cannot work.
    #[error("channel {name:?}: {reason}")]
    Channel {
        /// The channel.
        name: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A number that must be positive is zero.
    #[error("door: {0} must be more than 0")]
    Zero(&'static str),
    /// The operating system refused.
    #[error("door: cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            threads: 1,
            connections_max: 10_000,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            body_rate_min: 256 << 10,
            idle_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            body_bytes: 16 << 20,
            limits: Limits::default(),
            identity_max: 255,
            channels: Format::ALL.into_iter().map(Channel::of).collect(),
        }
    }
}

impl Channel {
    /// The default channel of a format: named like it, source `demo` or the `Forebay-Source` header,
    /// amending; the formats of shops that push are webhooks.
    pub fn of(format: Format) -> Self {
        let caller = match format {
            Format::Shopify | Format::WooCommerce => Caller::Webhook,
            Format::Salesforce | Format::B2cCommerceXml | Format::Forebay => Caller::Api,
        };
        let source = SourceRule::Header {
            name: HeaderName::from_static("forebay-source"),
            default: Some("demo".to_owned()),
        };
        Self {
            name: format.name().to_owned(),
            format,
            caller,
            source,
            amend: true,
            fingerprint_ignore: Vec::new(),
            quota: None,
            hold_for: None,
        }
    }
}

impl DoorConfig {
    /// Whether the door can open with this.
    pub(crate) fn check(&self) -> Result<(), BindError> {
        if !self.listen.ip().is_loopback() {
            return Err(BindError::NotLoopback(self.listen));
        }
        let positive = [
            ("threads", self.threads),
            ("connections_max", self.connections_max),
            ("body_bytes", self.body_bytes),
            ("identity_max", self.identity_max),
            ("body_rate_min", usize::try_from(self.body_rate_min).unwrap_or(usize::MAX)),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(BindError::Zero(name));
        }
        let mut names = HashSet::new();
        for channel in &self.channels {
            let reason = match channel.fault() {
                Some(reason) => reason,
                None if names.insert(channel.name.as_str()) => continue,
                None => "is there twice; give each channel its own name".to_owned(),
            };
            return Err(BindError::Channel { name: channel.name.clone(), reason });
        }
        Ok(())
    }
}

impl Channel {
    fn fault(&self) -> Option<String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(plain) {
            return Some(
                "a name is 1 to 64 ASCII letters, digits, '-', '_' or '.': it stands in paths"
                    .to_owned(),
            );
        }
        let constant = match &self.source {
            SourceRule::Constant(source) => Some(source),
            SourceRule::Header { default, .. } => default.as_ref(),
            SourceRule::Pointer { pointer, default } => {
                if self.format == Format::B2cCommerceXml {
                    return Some(
                        "source_pointer is for JSON formats; XML needs source or source_header"
                            .to_owned(),
                    );
                }
                if !pointer.starts_with('/') {
                    return Some("source_pointer is a JSON pointer and begins with '/'".to_owned());
                }
                default.as_ref()
            }
        };
        constant.and_then(|source| crate::envelope::part_fault("source", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(change: impl FnOnce(&mut DoorConfig)) -> String {
        let mut config = DoorConfig::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn the_defaults_open_and_each_fault_says_what_to_do() {
        assert_eq!(fault_of(|_| ()), "");
        assert!(fault_of(|c| c.listen = "0.0.0.0:1".parse().unwrap()).contains("credentials"));
        assert!(fault_of(|c| c.listen = "[::]:1".parse().unwrap()).contains("other machines"));
        assert!(fault_of(|c| c.threads = 0).contains("threads"));
        assert!(fault_of(|c| c.channels[0].name = "a/b".to_owned()).contains("paths"));
        assert!(fault_of(|c| c.channels[1].name = c.channels[0].name.clone()).contains("twice"));
        let empty = SourceRule::Constant(String::new());
        assert!(fault_of(|c| c.channels[0].source = empty).contains("empty"));
        let pointer = SourceRule::Pointer { pointer: "/x".to_owned(), default: None };
        assert!(fault_of(|c| c.channels[1].source = pointer).contains("XML"));
    }
}
