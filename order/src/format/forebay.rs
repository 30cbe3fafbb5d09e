//! Forebay's own canonical order JSON, described by `order/schema/forebay-order.schema.json`.
//!
//! A body is one order, an array, NDJSON, or `{"order": ..}`, `{"orders": [..]}`, `{"data": ..}`.
//!
//! # Identity, number, version
//! Identity is `id`, text or number, digit by digit; it is the only member an order must have. Number is
//! `number`, else the id. Version is `version`; the larger is the newer.
//!
//! # Readiness
//! | `status` | readiness |
//! |---|---|
//! | `placed`, missing, null | pending |
//! | `held` | held (on hold) |
//! | `cancelled` | cancelled, also where nothing but the id comes with it |
//! | `draft` | recorded (draft) |
//! | `test` | recorded (test) |
//! | another word | unreadable: a misspelled `cancelled` must not become a sale |
//! | placed or held, but no currency, totals, shopper, addresses, lines, charges, discounts, payments | fetch needed |
//!
//! # Fingerprint
//! Volatile: `version`, which says when and not what.
//!
//! # Oddities
//! | odd | what happens |
//! |---|---|
//! | no e-mail, no lines, no date or zone, totals that differ, fraction beyond the currency | summarised, flagged |
//! | a line names a shipment that is not there | summarised without delivery group, flagged |
//! | `line_count` above the lines there | summarised, flagged as incomplete |
//! | no currency, or one that ISO 4217 does not know | exception `no_currency` |
//! | a member of the wrong type, an amount that is none, a negative discount, an unknown word | unreadable (value) with its pointer: the whole order is checked at the door |
//!
//! The door is never stricter than the schema. It takes more in a few places, as in the other JSON
//! formats: a number where the schema has a text, `""` for a missing amount, `[]` for a missing object,
//! `{}` for an empty list, `"1"` for true.

mod model;
mod summary;

use bytes::Bytes;

use model::{Order, Status};
pub(crate) use summary::summarise;

use crate::json::{self, Facts, Fault, JsonFormat, Shape};
use crate::read::ItemResult;
use crate::readiness::{HoldReason, RecordedAs};
use crate::{ReadOptions, Readiness, Unreadable, UnreadableKind};

pub(crate) fn read(body: &Bytes, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    json::read::<Forebay>(body, options)
}

/// The format, for the JSON module.
struct Forebay;

impl JsonFormat for Forebay {
    type Order<'a> = Order<'a>;

    const SHAPE: Shape = Shape {
        wrappers: &["order", "orders", "data"],
        id: "id",
        volatile: &["version"],
        masked: &[
            "/note",
            "/attributes/**",
            "/lines/*/attributes/**",
            "/payments/*/method",
            "/payments/*/number",
            "/payments/*/card/**",
            "/payments/*/attributes/**",
        ],
    };

    fn facts(order: &Order<'_>, _wrapper: Option<&str>) -> Result<Facts, Fault> {
        let Some(id) = order.id.as_ref().and_then(json::Text::given) else {
            let message = "an order needs an `id`";
            return Err(Fault::of(UnreadableKind::MissingId, "/id", message));
        };
        let currency = order.currency.as_ref().and_then(json::Text::given);
        if currency.is_some_and(|code| {
            code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase())
        }) {
            let message = "expected an ISO 4217 code of three capitals";
            return Err(Fault::of(UnreadableKind::Value, "/currency", message));
        }
        let number = order.number.as_ref().and_then(json::Text::given);
        let shopper = order.shopper.0.as_ref();
        Ok(Facts {
            id: Some(id.to_owned()),
            number: number.unwrap_or(id).to_owned(),
            readiness: readiness(order),
            unplaced: false,
            version: order.version.map(|version| version.0),
            amount: order.totals.0.as_ref().and_then(|totals| totals.grand?.0),
            currency: currency.and_then(|code| code.parse().ok()),
            email: shopper.and_then(|s| s.email.as_ref()?.given()).map(str::to_owned),
            products: order.lines.len(),
            lines: order.lines.len() + order.charges.len(),
        })
    }
}

fn readiness(order: &Order<'_>) -> Readiness {
    match order.status.map(|status| status.0) {
        Some(Status::Cancelled) => Readiness::Cancelled,
        Some(Status::Draft) => Readiness::Recorded(RecordedAs::Draft),
        Some(Status::Test) => Readiness::Recorded(RecordedAs::Test),
        _ if order.is_only_an_id() => Readiness::FetchNeeded,
        Some(Status::Held) => Readiness::Held(HoldReason::OnHold),
        Some(Status::Placed) | None => Readiness::Pending,
    }
}
