//! The channel formats, one file each.

mod b2c_commerce_xml;
mod forebay;
mod salesforce;
mod shopify;
mod woocommerce;

use bytes::Bytes;

use crate::read::ItemResult;
use crate::{Fingerprint, OrderKey, OrderSummary, ReadOptions, Unmappable, Unreadable};

/// A channel's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Format {
    /// Salesforce order-summary graphs (`POST /commerce/order-summaries`).
    Salesforce = 1,
    /// B2C Commerce order XML (namespace `.../impex/order/2006-10-31`).
    B2cCommerceXml = 2,
    /// Shopify REST Admin order.
    Shopify = 3,
    /// WooCommerce REST v3 order.
    WooCommerce = 4,
    /// Forebay's own canonical JSON.
    Forebay = 5,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] =
        [Self::Salesforce, Self::B2cCommerceXml, Self::Shopify, Self::WooCommerce, Self::Forebay];

    /// Its name in the configuration and the default channel named like it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Salesforce => "salesforce",
            Self::B2cCommerceXml => "b2c-commerce-xml",
            Self::Shopify => "shopify",
            Self::WooCommerce => "woocommerce",
            Self::Forebay => "forebay",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format of that number on disk.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|format| *format as u8 == code)
    }

    pub(crate) fn read(
        self,
        body: &Bytes,
        options: &ReadOptions<'_>,
    ) -> Result<Vec<ItemResult>, Unreadable> {
        match self {
            Self::Salesforce => salesforce::read(body, options),
            Self::B2cCommerceXml => b2c_commerce_xml::read(body, options),
            Self::Shopify => shopify::read(body, options),
            Self::WooCommerce => woocommerce::read(body, options),
            Self::Forebay => forebay::read(body, options),
        }
    }

    pub(crate) fn summarise(
        self,
        key: OrderKey,
        fingerprint: Fingerprint,
        bytes: &[u8],
    ) -> Result<OrderSummary, Unmappable> {
        match self {
            Self::Salesforce => salesforce::summarise(key, fingerprint, bytes),
            Self::B2cCommerceXml => b2c_commerce_xml::summarise(key, fingerprint, bytes),
            Self::Shopify => shopify::summarise(key, fingerprint, bytes),
            Self::WooCommerce => woocommerce::summarise(key, fingerprint, bytes),
            Self::Forebay => forebay::summarise(key, fingerprint, bytes),
        }
    }
}
