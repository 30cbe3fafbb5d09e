//! Inputs shared by the benches: the load test's own orders, so that what is measured is what is played.

use bytes::Bytes;
use forebay_buffer::Envelope;
use forebay_loadtest::mix::Kind;
use forebay_loadtest::{Mix, Sale};
use forebay_order::{Fingerprint, Format, Item, Limits, OrderKey, ReadOptions};

/// One placed order of a format, about 2 KB, as a sender posts it.
///
/// # Panics
/// If the load test makes no order of that format.
pub fn order(format: Format) -> Bytes {
    orders(format, 1).pop().expect("the mix has every format")
}

/// Some placed orders of a format, each with an id of its own.
pub fn orders(format: Format, count: usize) -> Vec<Bytes> {
    let orders = u32::try_from(count * 20).unwrap_or(u32::MAX);
    let sale = Sale { orders, batch_share: 0.0, gzip_share: 0.0, ..Sale::default() };
    let mix = Mix::new(&sale);
    let plain = |request: &&forebay_loadtest::mix::Request| {
        let first = mix.deliveries.get(request.deliveries.start);
        request.channel.name() == format.name() && first.is_some_and(|d| d.kind == Kind::Plain)
    };
    mix.requests.iter().filter(plain).take(count).map(|request| request.body.clone()).collect()
}

/// The one item of a body.
///
/// # Panics
/// If the body cannot be read.
pub fn read(format: Format, body: &Bytes) -> Item {
    let options = ReadOptions { limits: Limits::default(), ..ReadOptions::default() };
    let mut items = forebay_order::read(format, body, &options).expect("a body of the mix is read");
    items.pop().expect("it has an item").expect("the item is read")
}

/// What the door would hand to the buffer for the `n`-th of many such orders.
pub fn envelope(body: &Bytes, n: u64) -> Envelope {
    let mut fingerprint = [0; 16];
    fingerprint[..8].copy_from_slice(&n.to_le_bytes());
    let key = OrderKey::new("shopify", "demo", n.to_string());
    Envelope {
        version: Some(1),
        format: Format::Shopify as u8,
        ..Envelope::new(key, Fingerprint(fingerprint), body.clone())
    }
}
