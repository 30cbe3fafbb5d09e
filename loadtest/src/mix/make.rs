//! From the drawn plan to bytes and moments.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_decimal::Decimal;

use super::arrival;
use super::cart::Cart;
use super::channel::{Channel, Form};
use super::content::{Content, Status};
use super::plan::{self, Drawn, Parcel};
use super::{Delivery, Key, Kind, Mix, Request};
use crate::Sale;

/// The first order of any sale is placed then (2026-11-27, midnight UTC), ms since 1970: equal seeds make
/// equal bytes whatever the day.
const FIRST_PLACED_MS: i64 = 1_795_737_600_000;

/// No sale is longer than a year, however low its rate.
const LONGEST_S: f64 = 365.0 * 86_400.0;

/// Orders with a follow-up come before this share of the sale, the follow-up within the share after it.
const FOLLOWED_BEFORE: f64 = 0.9;
const FOLLOWS_WITHIN: f64 = 0.1;
/// A follow-up never leaves sooner after its order.
const FOLLOWS_AFTER: Duration = Duration::from_millis(20);

pub(super) fn mix(sale: &Sale) -> Mix {
    let mut rng = Rng::with_seed(sale.seed);
    let parcels = plan::draw(sale, &mut rng);
    let items = || parcels.iter().flat_map(|parcel| &parcel.items);
    let first = items().count();
    let following = items().filter(|item| item.follow.is_some()).count();
    let rate = if sale.rate > 0.0 { sale.rate } else { 1.0 };
    let within = Duration::from_secs_f64(((first + following) as f64 / rate).min(LONGEST_S));
    let times = arrival::times(sale.shape, first, within, &mut rng);
    let second: Arc<str> = format!("{}-2", sale.source).into();
    let mut maker = Maker {
        rng,
        within,
        gzip_share: sale.gzip_share,
        sources: [Arc::from(sale.source.as_str()), second],
        counts: [[0; 2]; 5],
        mix: Mix {
            sale: sale.clone(),
            requests: Vec::with_capacity(parcels.len() + following),
            deliveries: Vec::with_capacity(first + following),
            keys: Vec::with_capacity(usize::try_from(sale.orders).unwrap_or_default()),
        },
    };
    let mut times = times.into_iter();
    for parcel in &parcels {
        // A feed that sends several orders at once waits for the last of them.
        let at = times.by_ref().take(parcel.items.len()).last().unwrap_or(within);
        maker.parcel(parcel, at);
    }
    let mut mix = maker.mix;
    mix.requests.sort_by_key(|request| request.at);
    mix
}

struct Maker {
    rng: Rng,
    within: Duration,
    gzip_share: f64,
    sources: [Arc<str>; 2],
    /// Orders so far, per channel and source.
    counts: [[u32; 2]; 5],
    mix: Mix,
}

/// A follow-up to be sent by itself.
struct Follow {
    kind: Kind,
    key: u32,
    text: String,
    total: Decimal,
    version: u32,
}

impl Maker {
    fn parcel(&mut self, parcel: &Parcel, at: Duration) {
        let channel = parcel.channel;
        let source = self.sources.get(parcel.source).cloned().unwrap_or_else(|| Arc::from("demo"));
        let start = self.mix.deliveries.len();
        let mut texts = Vec::with_capacity(parcel.items.len());
        let mut follows = Vec::new();
        for item in &parcel.items {
            let n = self.next_number(channel, parcel.source);
            let (text, follow) = self.item(channel, &source, n, *item, at);
            texts.push(text);
            follows.extend(follow);
        }
        let malformed = parcel.items.iter().any(|item| item.kind == Kind::Malformed);
        self.request(channel, &source, parcel.form, &texts, malformed, at, start);
        for follow in follows {
            let start = self.mix.deliveries.len();
            let Follow { kind, key, text, total, version } = follow;
            self.mix.deliveries.push(Delivery { kind, key: Some(key), version, total });
            let spread = self.within.mul_f64(FOLLOWS_WITHIN * self.rng.f64());
            let later = at + spread.max(FOLLOWS_AFTER);
            self.request(channel, &source, Form::One, &[text], false, later, start);
        }
    }

    fn next_number(&mut self, channel: Channel, source: usize) -> u32 {
        let of_channel = Channel::SHARES.iter().position(|(other, _)| *other == channel);
        let count =
            of_channel.and_then(|row| self.counts.get_mut(row)).and_then(|row| row.get_mut(source));
        let Some(count) = count else { return 0 };
        *count += 1;
        *count - 1
    }

    /// Writes one item of a parcel and what follows it.
    fn item(
        &mut self,
        channel: Channel,
        source: &Arc<str>,
        n: u32,
        drawn: Drawn,
        at: Duration,
    ) -> (String, Option<Follow>) {
        let placed_ms = FIRST_PLACED_MS + i64::try_from(at.as_millis()).unwrap_or_default();
        let cart = Cart::new(&mut self.rng, placed_ms, channel.lines_max());
        let order = Content {
            n,
            id: channel.id(n),
            number: channel.number(n),
            cart: &cart,
            status: match drawn.kind {
                Kind::Held => Status::Held,
                Kind::NotAnOrder => Status::NotAnOrder,
                _ => Status::Placed,
            },
            version: 0,
            poison: drawn.kind == Kind::Poison,
        };
        let mut text = channel.write(&order);
        let mut delivery =
            Delivery { kind: drawn.kind, key: None, version: 0, total: cart.grand_total() };
        if drawn.kind == Kind::Malformed {
            cut(&mut text, &mut self.rng);
        } else {
            let key = Key { channel, source: source.clone(), id: order.id.clone() };
            delivery.key = u32::try_from(self.mix.keys.len()).ok();
            self.mix.keys.push(key);
        }
        self.mix.deliveries.push(delivery);
        let early = at <= self.within.mul_f64(FOLLOWED_BEFORE);
        let follow = delivery.key.zip(drawn.follow).filter(|_| early);
        let follow = follow.map(|(key, kind)| match kind {
            Kind::Resent => {
                Follow { kind, key, text: text.clone(), total: delivery.total, version: 0 }
            }
            _ => follow_up(channel, &order, kind, key),
        });
        (text, follow)
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    fn request(
        &mut self,
        channel: Channel,
        source: &Arc<str>,
        form: Form,
        texts: &[String],
        bare: bool,
        at: Duration,
        start: usize,
    ) {
        let around = channel.envelope(form);
        let mut body =
            String::with_capacity(texts.iter().map(|t| t.len() + 1).sum::<usize>() + 256);
        body.push_str(around.head);
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                body.push_str(around.between);
            }
            body.push_str(text);
        }
        // Nothing comes after the place where a body was cut off.
        if !bare || texts.len() > 1 {
            body.push_str(around.tail);
        }
        let gzip = self.rng.f64() < self.gzip_share;
        self.mix.requests.push(Request {
            at,
            channel,
            source: source.clone(),
            content_type: around.content_type,
            gzip,
            body: if gzip { deflate(body.as_bytes()) } else { Bytes::from(body.into_bytes()) },
            deliveries: start..self.mix.deliveries.len(),
        });
    }
}

/// Another content, a newer version or a cancel of an order.
fn follow_up(channel: Channel, order: &Content<'_>, kind: Kind, key: u32) -> Follow {
    let more = order.cart.with_one_more();
    let newer = kind != Kind::Conflicting;
    let other = Content {
        cart: if matches!(kind, Kind::Conflicting | Kind::Amended) { &more } else { order.cart },
        status: if kind == Kind::Cancel { Status::Cancelled } else { Status::Placed },
        version: u32::from(newer),
        ..order.clone()
    };
    Follow {
        kind,
        key,
        text: channel.write(&other),
        total: other.cart.grand_total(),
        version: other.version,
    }
}

/// Cuts a body off somewhere between a quarter and three quarters.
fn cut(text: &mut String, rng: &mut Rng) {
    let quarter = text.len() / 4;
    let mut at = quarter + rng.usize(..quarter.max(1) * 2);
    while at > 0 && !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
}

fn deflate(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.map(Bytes::from).unwrap_or_default()
}
