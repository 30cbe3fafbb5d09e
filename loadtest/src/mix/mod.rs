//! The deliveries of a sale: what is sent, when, and what each one is. The same seed makes the same bytes.

mod arrival;
mod b2c_commerce_xml;
mod cart;
mod channel;
mod content;
mod forebay;
mod make;
mod plan;
mod salesforce;
mod shopify;
mod text;
mod woocommerce;
mod words;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::Sale;
pub use channel::Channel;

/// Share of the orders sent again, the same bytes.
pub const RESENT: f64 = 0.01;
/// Share of the orders whose key is sent again with another content and no newer version.
pub const CONFLICTING: f64 = 0.005;
/// Share of the orders sent again as a newer version, where the channel has versions.
pub const AMENDED: f64 = 0.01;
/// Share of the orders called off soon after.
pub const CANCELLED: f64 = 0.01;
/// Share of the orders that arrive unpaid, on hold or unconfirmed.
pub const HELD: f64 = 0.01;
/// Share of the held orders released later by a newer version, where the channel has versions.
pub const RELEASED: f64 = 0.5;
/// Share of the orders that read fine and cannot become a summary.
pub const POISON: f64 = 0.003;
/// Bodies that are no order (drafts, tests, failed attempts), per order; on top of the orders.
pub const NOT_AN_ORDER: f64 = 0.005;
/// Bodies cut off in the middle, per order; on top of the orders.
pub const MALFORMED: f64 = 0.003;

/// What one delivery is. What the server makes of it is its own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A placed sale, sent for the first time.
    Plain,
    /// A placed sale that is not paid, on hold or not confirmed.
    Held,
    /// A placed sale that cannot become a summary.
    Poison,
    /// The same bytes of an order once more.
    Resent,
    /// Another content under an order's key, with no version or the same.
    Conflicting,
    /// A newer version of an order.
    Amended,
    /// A newer version of a held order, which is ready now.
    Release,
    /// The order is called off.
    Cancel,
    /// A draft, a test or a failed attempt; it has an id, and is no order.
    NotAnOrder,
    /// Bytes cut off in the middle; it has no key.
    Malformed,
}

/// One order, or one body that is none, within a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    /// What it is.
    pub kind: Kind,
    /// Which of [`Mix::keys`] it belongs to.
    pub key: Option<u32>,
    /// Version of the order's content; the larger is the newer.
    pub version: u32,
    /// The order's grand total.
    pub total: Decimal,
}

/// Who an order is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its channel.
    pub channel: Channel,
    /// Shop, site or tenant within the channel.
    pub source: Arc<str>,
    /// The sender's immutable id, as text.
    pub id: String,
}

/// One HTTP request: one delivery or several.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// When it is to leave, counted from the start of the sale.
    pub at: Duration,
    /// Where it goes.
    pub channel: Channel,
    /// Its `Forebay-Source`.
    pub source: Arc<str>,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Whether the body is gzip.
    pub gzip: bool,
    /// The body.
    pub body: Bytes,
    /// Which of [`Mix::deliveries`] it holds, in the order of the body.
    pub deliveries: Range<usize>,
}

/// Everything a sale sends, made before the clock starts. Bodies take about 3 KB of memory an order.
#[derive(Debug)]
pub struct Mix {
    /// The sale it belongs to.
    pub sale: Sale,
    /// What is sent, in the order it is to leave.
    pub requests: Vec<Request>,
    /// What the requests hold.
    pub deliveries: Vec<Delivery>,
    /// The distinct ids: the sale's orders, and the bodies that are no order.
    pub keys: Vec<Key>,
}

impl Mix {
    /// Makes every body and every moment of the sale.
    pub fn new(sale: &Sale) -> Self {
        make::mix(sale)
    }
}
