//! Requests that differ in the orders' ids only, so that making one costs next to nothing.

use forebay_loadtest::mix::{Channel, Kind};
use forebay_loadtest::{Mix, Sale};

use crate::failure::{Failure, Result};

/// The bytes of an order that the issue's figures are about.
const ORDER_BYTES: usize = 2_048;
/// Orders the one nearest to that size is picked from.
const CANDIDATES: u32 = 4_000;
/// What an id begins with that ends in hexadecimal digits alone.
const ID_HEAD: &str = r#"{"id":"018f9c2e-"#;
/// Those digits: `{"id":"018f9c2e-hhhh-7b3a-9d11-hhhhhhhhhhhh"`.
const DIGITS_AT: usize = 31;
const DIGITS: usize = 12;
/// What the shopper's address begins with, and what it is made where every order has a shopper of its own.
const EMAIL_HEAD: &str = r#""shopper":{"email":""#;
const OWN_EMAIL: &str = "shopper.000000000000@mail.example";
const OWN_DIGITS_AT: usize = "shopper.".len();

/// An endless feed of requests with one order each, or a batch of them.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Orders {
    request: Vec<u8>,
    /// Where the first order begins, and how far it is from one to the next.
    first: usize,
    line: usize,
    count: usize,
    /// Where digits stand in an order.
    digits: Vec<usize>,
    next: u64,
}

impl Orders {
    /// One canonical order of about 2 KB in each request.
    pub(in crate::bench) fn single() -> Result<Self> {
        Ok(Self::new(&canonical()?, 1, "application/json"))
    }

    /// The same, each with a shopper of its own.
    pub(in crate::bench) fn of_shoppers() -> Result<Self> {
        let order = canonical()?;
        let none = || Failure::Broken("the canonical order has no shopper".to_owned());
        let at = order.find(EMAIL_HEAD).ok_or_else(none)? + EMAIL_HEAD.len();
        let (head, rest) = order.split_at(at);
        let (_, tail) = rest.split_once('"').ok_or_else(none)?;
        let mut orders = Self::new(&format!("{head}{OWN_EMAIL}\"{tail}"), 1, "application/json");
        orders.digits.push(at + OWN_DIGITS_AT);
        Ok(orders)
    }

    /// So many in each request, one a line.
    pub(in crate::bench) fn batch(count: usize) -> Result<Self> {
        Ok(Self::new(&canonical()?, count, "application/x-ndjson"))
    }

    fn new(order: &str, count: usize, content_type: &str) -> Self {
        let line = order.len() + 1;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            Self::path(),
            line * count,
        )
        .into_bytes();
        let first = request.len();
        for _ in 0..count {
            request.extend_from_slice(order.as_bytes());
            request.push(b'\n');
        }
        Self { request, first, line, count, digits: vec![DIGITS_AT], next: 1 }
    }

    /// The next request; every order in it has an id of its own.
    pub(in crate::bench) fn next(&mut self) -> &[u8] {
        for n in 0..self.count {
            for at in &self.digits {
                let at = self.first + n * self.line + at;
                if let Some(place) = self.request.get_mut(at..at + DIGITS) {
                    hex(self.next, place);
                }
            }
            self.next += 1;
        }
        &self.request
    }

    /// The body of the next request.
    pub(in crate::bench) fn next_body(&mut self) -> &[u8] {
        let first = self.first;
        self.next().get(first..).unwrap_or_default()
    }

    /// Goes on with the ids after those of another feed.
    pub(in crate::bench) fn after(mut self, other: &Self) -> Self {
        self.next = other.next;
        self
    }

    /// Where they are posted.
    pub(in crate::bench) fn path() -> &'static str {
        Channel::Forebay.path()
    }

    /// Orders in one request.
    pub(in crate::bench) fn per_request(&self) -> u64 {
        self.count as u64
    }

    /// Orders made so far.
    pub(in crate::bench) fn made(&self) -> u64 {
        self.next - 1
    }
}

/// Writes a number's last hexadecimal digits.
fn hex(mut number: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        let nibble = u8::try_from(number & 15).unwrap_or_default();
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        number >>= 4;
    }
}

/// The load test's canonical order nearest to 2 KB, as a sender posts it.
fn canonical() -> Result<String> {
    let sale = Sale { orders: CANDIDATES, batch_share: 0.0, gzip_share: 0.0, ..Sale::default() };
    let mix = Mix::new(&sale);
    let plain = mix.requests.iter().filter(|request| {
        let first = mix.deliveries.get(request.deliveries.start);
        request.channel == Channel::Forebay && first.is_some_and(|d| d.kind == Kind::Plain)
    });
    plain
        .filter_map(|request| std::str::from_utf8(&request.body).ok())
        .filter(|body| body.starts_with(ID_HEAD) && !body.contains('\n'))
        .min_by_key(|body| body.len().abs_diff(ORDER_BYTES))
        .map(str::to_owned)
        .ok_or_else(|| Failure::Broken("the load test makes no canonical order".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids(request: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let id = |line: &str| {
            let order: serde_json::Value = serde_json::from_str(line).unwrap();
            order["id"].as_str().unwrap().to_owned()
        };
        body.lines().map(id).collect()
    }

    #[test]
    fn every_order_has_an_id_of_its_own_across_feeds() {
        let mut single = Orders::single().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..300 {
            seen.extend(ids(single.next()));
        }
        let mut batch = Orders::batch(100).unwrap().after(&single);
        for _ in 0..3 {
            seen.extend(ids(batch.next()));
        }
        assert_eq!(seen.len(), 600);
        assert_eq!(batch.made(), 600);
    }

    #[test]
    fn every_order_has_a_shopper_of_its_own_where_that_is_wanted() {
        let mut orders = Orders::of_shoppers().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..300 {
            assert_eq!(ids(orders.next()).len(), 1);
            let order: serde_json::Value = serde_json::from_slice(orders.next_body()).unwrap();
            seen.insert(order["shopper"]["email"].as_str().unwrap().to_owned());
        }
        assert_eq!((seen.len(), orders.made()), (300, 600));
    }

    #[test]
    fn an_order_is_about_2_kb() {
        let bytes = canonical().unwrap().len();
        assert!((1_900..=2_200).contains(&bytes), "{bytes}");
    }
}
