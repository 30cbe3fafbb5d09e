//! The channel formats, one file each.

use bytes::Bytes;

use crate::{Fingerprint, Item, OrderKey, OrderSummary, ReadOptions, Unmappable, Unreadable};

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

    #[allow(clippy::type_complexity)]
    pub(crate) fn read(
        self,
        _body: &Bytes,
        _options: &ReadOptions<'_>,
    ) -> Result<Vec<Result<Item, Unreadable>>, Unreadable> {
        Ok(Vec::new())
    }

    pub(crate) fn summarise(
        self,
        _key: OrderKey,
        _fingerprint: Fingerprint,
        _bytes: &[u8],
    ) -> Result<OrderSummary, Unmappable> {
        Err(Unmappable { code: "format", reason: self.name().to_owned() })
    }
}
