//! Who an order is: channel, source and the sender's immutable id.

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What must be escaped in one part of an identity: everything that means something in a URL path,
/// and `:`, which joins the parts.
const PART: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The identity of an order: the channel it came through, the source within the channel (shop, site,
/// tenant) and the sender's own immutable id, kept as text.
///
/// The order *number* is a label for people and never part of this. Two orders are the same order
/// exactly when their keys are equal, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// Name of the configured channel.
    pub channel: Arc<str>,
    /// Shop, site or tenant within the channel.
    pub source: Arc<str>,
    /// The sender's immutable id, as text.
    pub id: String,
}

impl OrderKey {
    /// A key of its three parts, each as plain (unescaped) text.
    pub fn new(
        channel: impl Into<Arc<str>>,
        source: impl Into<Arc<str>>,
        id: impl Into<String>,
    ) -> Self {
        Self { channel: channel.into(), source: source.into(), id: id.into() }
    }

    /// The parts percent-encoded and joined by `/`, as in `/v1/orders/{channel}/{source}/{id}`.
    pub fn path(&self) -> String {
        let parts = [&*self.channel, &*self.source, &*self.id];
        let mut path = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for (n, part) in parts.into_iter().enumerate() {
            if n > 0 {
                path.push('/');
            }
            path.extend(encode(part));
        }
        path
    }

    /// The identity the OMS stores: parts percent-encoded and joined by `:`, so that two keys never
    /// share one identity.
    pub fn identity(&self) -> String {
        self.to_string()
    }

    /// Reads what [`OrderKey::identity`] wrote; `None` if it is not three valid parts.
    pub fn parse(identity: &str) -> Option<Self> {
        let mut parts = identity.split(':');
        let (channel, source, id) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self::new(decode(channel)?, decode(source)?, decode(id)?))
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", encode(&self.channel), encode(&self.source), encode(&self.id))
    }
}

fn encode(part: &str) -> percent_encoding::PercentEncode<'_> {
    utf8_percent_encode(part, PART)
}

/// One percent-encoded part back to text; `None` if it is not UTF-8.
pub fn decode(part: &str) -> Option<String> {
    percent_decode_str(part).decode_utf8().ok().map(|text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_with_separators_stay_apart() {
        let one = OrderKey::new("a", "b:c", "d");
        let two = OrderKey::new("a:b", "c", "d");
        assert_ne!(one.identity(), two.identity());
        assert_eq!(OrderKey::parse(&one.identity()), Some(one));
        assert_eq!(OrderKey::parse(&two.identity()), Some(two));
    }

    #[test]
    fn a_hash_sign_and_a_slash_are_safe_in_a_path() {
        let key = OrderKey::new("shopify", "demo", "#1001/é");
        assert_eq!(key.path(), "shopify/demo/%231001%2F%C3%A9");
        assert_eq!(OrderKey::parse(&key.identity()), Some(key));
    }
}
