//! Which deliveries a sale has, drawn before any body is written.

use fastrand::Rng;

use super::channel::{Channel, Form};
use super::{
    AMENDED, CANCELLED, CONFLICTING, HELD, Kind, MALFORMED, NOT_AN_ORDER, POISON, RELEASED, RESENT,
};
use crate::Sale;

/// Orders in one batch.
const BATCH: std::ops::RangeInclusive<usize> = 2..=20;
const BATCH_MEAN: f64 = 11.0;

/// A request to come: where it goes, and what it holds.
pub(super) struct Parcel {
    pub(super) channel: Channel,
    /// Which of the two sources.
    pub(super) source: usize,
    pub(super) form: Form,
    pub(super) items: Vec<Drawn>,
}

/// What one delivery of a parcel is, and what follows it later by itself.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    pub(super) kind: Kind,
    pub(super) follow: Option<Kind>,
}

/// Draws the whole sale.
pub(super) fn draw(sale: &Sale, rng: &mut Rng) -> Vec<Parcel> {
    let start_of_batch = batch_start(sale.batch_share);
    let mut parcels = Vec::new();
    let mut orders = 0;
    while orders < sale.orders {
        let batch = rng.f64() < start_of_batch;
        let mut wanted = if batch { rng.usize(BATCH) } else { 1 };
        let first = draw_kind(rng);
        let channel = draw_channel(rng, first);
        let mut form = match (batch, rng.bool()) {
            (false, _) => Form::One,
            (true, false) => Form::Array,
            (true, true) => Form::Lines,
        };
        if first == Kind::Malformed && !own_line(channel, form) {
            (wanted, form) = (1, Form::One);
        }
        let mut parcel = Parcel { channel, source: rng.usize(..2), form, items: Vec::new() };
        let mut kind = first;
        loop {
            if is_order(kind) {
                orders += 1;
            }
            parcel.items.push(Drawn { kind, follow: draw_follow(rng, channel, kind) });
            if parcel.items.len() >= wanted || orders >= sale.orders {
                break;
            }
            kind = draw_kind(rng);
            // A cut-off body would take its neighbours with it, unless each has its own line.
            if !channel.has(kind) || (kind == Kind::Malformed && !own_line(channel, form)) {
                kind = Kind::Plain;
            }
        }
        parcels.push(parcel);
    }
    parcels
}

fn own_line(channel: Channel, form: Form) -> bool {
    form == Form::Lines && !matches!(channel, Channel::Salesforce | Channel::B2cCommerceXml)
}

/// The chance that a batch starts, so that the wanted share of the orders is in one.
fn batch_start(share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    share / (share + BATCH_MEAN * (1.0 - share))
}

/// Whether it counts as one of the sale's orders.
fn is_order(kind: Kind) -> bool {
    matches!(kind, Kind::Plain | Kind::Held | Kind::Poison)
}

fn draw_kind(rng: &mut Rng) -> Kind {
    let parts = [
        (NOT_AN_ORDER, Kind::NotAnOrder),
        (MALFORMED, Kind::Malformed),
        (HELD, Kind::Held),
        (POISON, Kind::Poison),
    ];
    one_of(rng, &parts).unwrap_or(Kind::Plain)
}

/// What follows an order later. Channels that cannot say it say it less often than the share; the others
/// are not made to say it more.
fn draw_follow(rng: &mut Rng, channel: Channel, kind: Kind) -> Option<Kind> {
    let follow = match kind {
        Kind::Plain => one_of(
            rng,
            &[
                (RESENT, Kind::Resent),
                (CONFLICTING, Kind::Conflicting),
                (AMENDED, Kind::Amended),
                (CANCELLED, Kind::Cancel),
            ],
        ),
        Kind::Held => one_of(rng, &[(RELEASED, Kind::Release)]),
        _ => None,
    };
    follow.filter(|kind| channel.has(*kind))
}

/// One of the parts by its share, or none of them.
fn one_of(rng: &mut Rng, parts: &[(f64, Kind)]) -> Option<Kind> {
    let mut at = rng.f64();
    for (share, kind) in parts {
        if at < *share {
            return Some(*kind);
        }
        at -= share;
    }
    None
}

fn draw_channel(rng: &mut Rng, kind: Kind) -> Channel {
    let able = || Channel::SHARES.into_iter().filter(|(channel, _)| channel.has(kind));
    let whole: u8 = able().map(|(_, share)| share).sum();
    let mut at = rng.u8(..whole.max(1));
    for (channel, share) in able() {
        if at < share {
            return channel;
        }
        at -= share;
    }
    Channel::Forebay
}
