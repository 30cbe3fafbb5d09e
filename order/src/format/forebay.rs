//! forebay

use bytes::Bytes;

use crate::read::ItemResult;
use crate::{Fingerprint, OrderKey, OrderSummary, ReadOptions, Unmappable, Unreadable};

pub(crate) fn read(
    _body: &Bytes,
    _options: &ReadOptions<'_>,
) -> Result<Vec<ItemResult>, Unreadable> {
    Ok(Vec::new())
}

pub(crate) fn summarise(
    _key: OrderKey,
    _fingerprint: Fingerprint,
    _bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    Err(Unmappable { code: "format", reason: String::new() })
}
