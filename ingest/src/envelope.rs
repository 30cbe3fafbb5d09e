//! From what a format read to what the buffer keeps.

use std::sync::Arc;

use bytes::Bytes;
use forebay_buffer::Envelope;
use forebay_order::{Fingerprint, Item, OrderKey, Readiness, RecordedAs};
use http::HeaderMap;

use crate::channel::Feed;
use crate::config::SourceRule;
use crate::marks::Marks;
use crate::problem::short;

/// What is wrong with a gzip body that does not unpack.
pub(crate) const DAMAGED_GZIP: &str = "The gzip body is damaged, cut short, or has something behind its end. Send it again, or send it unpacked.";

/// The longest reason that is kept: it can hold names of members, which are the sender's.
const REASON_MAX: usize = 512;

/// The longest number that is kept beside the body, in bytes. It is a label for people; with one as long as
/// the body a record would be more than a journal group holds.
const NUMBER_MAX: usize = 255;

/// Stands for the source of a delivery that named none that can be used.
const SOURCE_UNKNOWN: &str = "unknown";

/// Everything the envelopes of one request have in common.
pub(crate) struct Maker<'a> {
    pub(crate) feed: &'a Feed,
    pub(crate) marks: Marks,
    /// The source, or why there is none; a pointer rule decides per item.
    pub(crate) source: Source<'a>,
    pub(crate) lookup_key: &'a [u8; 32],
    pub(crate) identity_max: usize,
    pub(crate) now_ms: i64,
}

/// Where the source of this request's items comes from.
pub(crate) enum Source<'a> {
    /// The same for all.
    Fixed(Result<Arc<str>, String>),
    /// From the item, or this.
    Item(Option<&'a str>),
}

/// Why an item that was read cannot have a key.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// The request did not name a source that can be used.
    Source(String),
    /// The item's own id or source cannot be used.
    Identity(String),
}

impl<'a> Source<'a> {
    pub(crate) fn of(rule: &'a SourceRule, headers: &HeaderMap) -> Self {
        match rule {
            SourceRule::Constant(source) => Self::Fixed(Ok(Arc::from(source.as_str()))),
            SourceRule::Pointer { default, .. } => Self::Item(default.as_deref()),
            SourceRule::Header { name, default } => Self::Fixed(match headers.get(name) {
                None => default.as_deref().map(Arc::from).ok_or_else(|| {
                    format!("The header {name} must name the source (shop, site or tenant) of the order.")
                }),
                Some(value) => {
                    let text = std::str::from_utf8(value.as_bytes()).map(str::trim);
                    let text = text.map_err(|_| format!("The header {name} is not UTF-8."));
                    text.and_then(|text| match part_fault("source", text) {
                        Some(fault) => Err(format!("The header {name} cannot be used: {fault}.")),
                        None => Ok(Arc::from(text)),
                    })
                }
            }),
        }
    }

    /// The source for a body that was not read, or whose own source cannot be used.
    fn fallback(&self) -> Arc<str> {
        match self {
            Self::Fixed(Ok(source)) => Arc::clone(source),
            Self::Item(Some(source)) => Arc::from(*source),
            Self::Fixed(Err(_)) | Self::Item(None) => Arc::from(SOURCE_UNKNOWN),
        }
    }
}

impl Maker<'_> {
    /// The key of an item that was read; its id is empty where the item occupies no key and has no usable one.
    ///
    /// # Errors
    /// [`Unfit`] when no key can be made of an order.
    pub(crate) fn key(&self, item: &Item) -> Result<OrderKey, Unfit> {
        let source = self.source(item.source.as_deref());
        let id = item.id.clone().unwrap_or_default();
        if matches!(item.readiness, Readiness::Recorded(_) | Readiness::FetchNeeded) {
            let source = source.unwrap_or_else(|_| self.source.fallback());
            let mut key = OrderKey::new(Arc::clone(&self.feed.name), source, id);
            if self.key_fault(&key).is_some() {
                key.id.clear();
            }
            return Ok(key);
        }
        let key = OrderKey::new(Arc::clone(&self.feed.name), source?, id);
        self.key_fault(&key).map_or(Ok(key), |fault| Err(Unfit::Identity(fault)))
    }

    /// The envelope of an item that was read, under [`Maker::key`].
    pub(crate) fn item(&self, item: Item, key: OrderKey) -> Envelope {
        let reason = match item.readiness {
            Readiness::FetchNeeded => {
                "only an id came; fetch the order where it was placed and send it whole".to_owned()
            }
            _ => String::new(),
        };
        Envelope {
            key,
            readiness: item.readiness,
            version: item.version,
            fingerprint: item.fingerprint,
            total: item.total(),
            lookup: item.email.as_deref().and_then(|email| self.lookup(email)),
            unplaced: item.unplaced,
            number: short(&item.number, NUMBER_MAX).to_owned(),
            masked: item.masked,
            reason,
            body: item.bytes,
            ..self.bare()
        }
    }

    /// The envelope of an item that was read but can have no key, for a sender that would send no other.
    pub(crate) fn unfit(&self, item: Item, unfit: Unfit) -> Envelope {
        let (Unfit::Source(reason) | Unfit::Identity(reason)) = unfit;
        Envelope {
            number: short(&item.number, NUMBER_MAX).to_owned(),
            fingerprint: item.fingerprint,
            masked: item.masked,
            reason,
            body: item.bytes,
            ..self.bare()
        }
    }

    /// The envelope of bytes that cannot be read, for a sender that would send no others.
    pub(crate) fn unreadable(&self, body: Bytes, reason: String) -> Envelope {
        let fingerprint = bytes_fingerprint(&body);
        let (body, masked) = forebay_order::mask_unread(body);
        let (readiness, reason) = (Readiness::Unreadable, short(&reason, REASON_MAX).to_owned());
        Envelope { readiness, fingerprint, masked, reason, body, ..self.bare() }
    }

    /// The envelope of a sender's message about itself.
    pub(crate) fn ping(&self, body: Bytes) -> Envelope {
        let readiness = Readiness::Recorded(RecordedAs::Ping);
        Envelope { readiness, fingerprint: bytes_fingerprint(&body), body, ..self.bare() }
    }

    fn bare(&self) -> Envelope {
        let channel = &self.feed.channel;
        let not_before_ms = channel.hold_for.map(|hold| {
            self.now_ms.saturating_add(i64::try_from(hold.as_millis()).unwrap_or(i64::MAX))
        });
        Envelope {
            key: OrderKey::new(Arc::clone(&self.feed.name), self.source.fallback(), ""),
            number: String::new(),
            readiness: Readiness::Unreadable,
            amend: channel.amend,
            version: None,
            fingerprint: Fingerprint([0; 16]),
            fingerprint_version: Fingerprint::VERSION,
            not_before_ms,
            format: channel.format as u8,
            lane: 0,
            total: None,
            lookup: None,
            traceparent: self.marks.traceparent,
            synthetic: self.marks.synthetic,
            unplaced: false,
            masked: Vec::new(),
            reason: String::new(),
            body: Bytes::new(),
        }
    }

    fn source(&self, of_item: Option<&str>) -> Result<Arc<str>, Unfit> {
        match &self.source {
            Source::Fixed(source) => source.clone().map_err(Unfit::Source),
            Source::Item(default) => {
                let missing = || {
                    let what = "The order does not name its source where the channel's source_pointer looks.";
                    Unfit::Identity(what.to_owned())
                };
                let source = of_item.or(*default).ok_or_else(missing)?;
                match part_fault("source", source) {
                    Some(fault) => Err(Unfit::Identity(format!("The order's {fault}."))),
                    None => Ok(Arc::from(source)),
                }
            }
        }
    }

    fn key_fault(&self, key: &OrderKey) -> Option<String> {
        if let Some(fault) = part_fault("id", &key.id) {
            return Some(format!("The order's {fault}."));
        }
        // A byte becomes three at most, so most keys need no encoding to be known as short.
        let most = 3 * (key.channel.len() + key.source.len() + key.id.len()) + 2;
        let len = if most <= self.identity_max { most } else { key.identity().len() };
        (len > self.identity_max).then(|| {
            format!(
                "Channel, source and id joined and percent-encoded are {len} bytes; the OMS keeps at most {}.",
                self.identity_max
            )
        })
    }

    /// Keyed hash of the normalised address, to find a shopper's orders without keeping it.
    fn lookup(&self, email: &str) -> Option<[u8; 8]> {
        let normal = email.trim().to_lowercase();
        if normal.is_empty() {
            return None;
        }
        let hash = blake3::keyed_hash(self.lookup_key, normal.as_bytes());
        hash.as_bytes().first_chunk().copied()
    }
}

/// What forbids a text as a part of a key, as the rest of a sentence that begins with what it is of.
pub(crate) fn part_fault(what: &str, part: &str) -> Option<String> {
    if part.is_empty() {
        return Some(format!("{what} is empty"));
    }
    part.chars().any(char::is_control).then(|| format!("{what} contains a control character"))
}

fn bytes_fingerprint(body: &[u8]) -> Fingerprint {
    let hash = blake3::hash(body);
    Fingerprint(hash.as_bytes().first_chunk().copied().unwrap_or_default())
}
