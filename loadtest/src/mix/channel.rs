//! The five default channels, one per format.

use std::fmt;

use super::content::Content;
use super::{Kind, b2c_commerce_xml, forebay, salesforce, shopify, woocommerce};

/// A default channel; each has the format of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Order-summary graphs.
    Salesforce,
    /// Order XML.
    B2cCommerceXml,
    /// Canonical JSON.
    Forebay,
    /// The order webhook.
    Shopify,
    /// The order webhook.
    Woocommerce,
}

impl Channel {
    /// All, with their share of the orders in percent.
    pub const SHARES: [(Self, u8); 5] = [
        (Self::Salesforce, 15),
        (Self::B2cCommerceXml, 15),
        (Self::Forebay, 20),
        (Self::Shopify, 30),
        (Self::Woocommerce, 20),
    ];

    /// Its name, as in the path of a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Salesforce => "salesforce",
            Self::B2cCommerceXml => "b2c-commerce-xml",
            Self::Forebay => "forebay",
            Self::Shopify => "shopify",
            Self::Woocommerce => "woocommerce",
        }
    }

    /// Where its orders are posted.
    pub fn path(self) -> &'static str {
        match self {
            Self::Salesforce => "/v1/channels/salesforce/orders",
            Self::B2cCommerceXml => "/v1/channels/b2c-commerce-xml/orders",
            Self::Forebay => "/v1/channels/forebay/orders",
            Self::Shopify => "/v1/channels/shopify/orders",
            Self::Woocommerce => "/v1/channels/woocommerce/orders",
        }
    }

    /// The sender's own header that names the event, where it has one.
    pub(crate) fn topic(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Shopify => Some(("x-shopify-topic", "orders/updated")),
            Self::Woocommerce => Some(("x-wc-webhook-topic", "order.updated")),
            _ => None,
        }
    }

    /// Whether the format can say such a thing at all.
    pub(super) fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Plain | Kind::Resent | Kind::Conflicting | Kind::Poison | Kind::Malformed => true,
            Kind::Cancel | Kind::Held | Kind::NotAnOrder => self != Self::Salesforce,
            Kind::Amended | Kind::Release => self.has_versions(),
        }
    }

    fn has_versions(self) -> bool {
        matches!(self, Self::Forebay | Self::Shopify | Self::Woocommerce)
    }

    /// Most product lines an order gets, so that bodies stay between one and about four KB.
    pub(super) fn lines_max(self) -> usize {
        match self {
            Self::Salesforce => 2,
            Self::B2cCommerceXml => 3,
            Self::Shopify | Self::Woocommerce => 4,
            Self::Forebay => 6,
        }
    }

    /// The immutable id of its n-th order of a source, from 0.
    pub(super) fn id(self, n: u32) -> String {
        match self {
            Self::Salesforce => salesforce::id(n),
            Self::B2cCommerceXml => b2c_commerce_xml::id(n),
            Self::Forebay => forebay::id(n),
            Self::Shopify => shopify::id(n),
            Self::Woocommerce => woocommerce::id(n),
        }
    }

    /// The number people know that order by.
    pub(super) fn number(self, n: u32) -> String {
        match self {
            Self::Salesforce => salesforce::number(n),
            Self::B2cCommerceXml => b2c_commerce_xml::number(n),
            Self::Forebay => forebay::number(n),
            Self::Shopify => shopify::number(n),
            Self::Woocommerce => woocommerce::number(n),
        }
    }

    /// The order alone, in its format, on one line (XML: one line per order).
    pub(super) fn write(self, order: &Content<'_>) -> String {
        let mut out = String::with_capacity(4096);
        let written: fmt::Result = match self {
            Self::Salesforce => salesforce::write(&mut out, order),
            Self::B2cCommerceXml => b2c_commerce_xml::write(&mut out, order),
            Self::Forebay => forebay::write(&mut out, order),
            Self::Shopify => shopify::write(&mut out, order),
            Self::Woocommerce => woocommerce::write(&mut out, order),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        out
    }

    /// What stands around the orders of a body, and between them.
    pub(super) fn envelope(self, form: Form) -> Envelope {
        let (head, between, tail, content_type) = match (self, form) {
            (Self::Salesforce, _) => (salesforce::HEAD, ",", salesforce::TAIL, "application/json"),
            (Self::B2cCommerceXml, _) => {
                (b2c_commerce_xml::HEAD, "", b2c_commerce_xml::TAIL, "application/xml")
            }
            (_, Form::One) => ("", "", "", "application/json"),
            (_, Form::Array) => ("[", ",", "]", "application/json"),
            (_, Form::Lines) => ("", "\n", "\n", "application/x-ndjson"),
        };
        Envelope { head, between, tail, content_type }
    }
}

/// How a JSON body holds its orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One order, nothing around it.
    One,
    /// An array.
    Array,
    /// NDJSON.
    Lines,
}

/// The text around orders.
pub(super) struct Envelope {
    pub(super) head: &'static str,
    pub(super) between: &'static str,
    pub(super) tail: &'static str,
    pub(super) content_type: &'static str,
}
