//! Bodies and paths of calls, from templates (minijinja). A name that is not there is an error, never an empty text.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use forebay_order::{Currency, Fingerprint, OrderSummary};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::IgnoredAny;

use super::{HttpOptions, OpenError};
use crate::oms::Identity;

/// Values in these are written as JSON.
const BODY: &str = "oms.create.body";
const CLAIM: &str = "oms.claim.body";
/// Identities in these are written as a URL takes them.
const CREATE: &str = "oms.create.path";
const FIND: &str = "oms.find.path";
const LIST: &str = "oms.list.path";

/// All but what a URL takes everywhere (RFC 3986, section 2.3).
pub(super) const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The templates of one OMS.
pub(super) struct Templates {
    environment: Environment<'static>,
    values: BTreeMap<String, String>,
}

/// What a body is made of.
#[derive(Serialize)]
struct Orders<'a> {
    orders: Vec<Order<'a>>,
}

/// What its template is given.
#[derive(Serialize)]
struct Given<'a> {
    #[serde(flatten)]
    orders: Orders<'a>,
    values: &'a BTreeMap<String, String>,
}

/// One order of a call.
#[derive(Serialize)]
struct Order<'a> {
    identity: Identity,
    fingerprint: Fingerprint,
    order: &'a OrderSummary,
}

/// Whose orders are drained to it.
#[derive(Serialize)]
struct Claimed<'a> {
    fleet: &'a str,
    since_ms: i64,
}

#[derive(Serialize)]
struct Page {
    after: u64,
    limit: usize,
}

impl<'a> Order<'a> {
    fn of(order: &'a OrderSummary) -> Self {
        Self { identity: order.key.identity(), fingerprint: order.fingerprint, order }
    }
}

#[derive(Serialize)]
struct Wanted<'a> {
    identity: &'a str,
    identities: &'a [Identity],
}

impl Templates {
    /// Reads them; none has to be there.
    ///
    /// # Errors
    /// [`OpenError::Template`], with the line.
    pub(super) fn new(options: &HttpOptions) -> Result<Self, OpenError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("minor_units", minor_units);
        environment.add_filter("plus", plus);
        environment.add_filter("total", total);
        environment.add_filter("word", word);
        environment.add_test("zero", zero);
        environment.set_auto_escape_callback(|name| match name {
            BODY | CLAIM => AutoEscape::Json,
            _ => AutoEscape::None,
        });
        let sources = [
            (BODY, options.create.body.as_ref()),
            (CREATE, Some(&options.create.path)),
            (FIND, options.find.as_ref().map(|find| &find.path)),
            (LIST, options.list.as_ref().map(|list| &list.path)),
            (CLAIM, options.claim.as_ref().and_then(|claim| claim.body.as_ref())),
        ];
        for (name, source) in sources {
            if let Some(source) = source {
                let added = environment.add_template_owned(name, source.clone());
                added.map_err(|error| OpenError::Template { name, reason: said(&error) })?;
            }
        }
        Ok(Self { environment, values: options.create.values.clone() })
    }

    /// The body that creates these.
    ///
    /// # Errors
    /// In words, without a value of the orders.
    pub(super) fn body(&self, batch: &[Arc<OrderSummary>]) -> Result<Bytes, String> {
        let orders = Orders { orders: batch.iter().map(|order| Order::of(order)).collect() };
        match self.environment.get_template(BODY) {
            Ok(_) => self.json(BODY, Given { orders, values: &self.values }),
            Err(_) => plainly(&orders),
        }
    }

    /// The record that says whose orders are drained to it.
    ///
    /// # Errors
    /// In words.
    pub(super) fn claim(&self, fleet: &str, since_ms: i64) -> Result<Bytes, String> {
        let claimed = Claimed { fleet, since_ms };
        match self.environment.get_template(CLAIM) {
            Ok(_) => self.json(CLAIM, claimed),
            Err(_) => plainly(&claimed),
        }
    }

    fn json(&self, name: &str, values: impl Serialize) -> Result<Bytes, String> {
        let body = self.render(name, values)?;
        let json = serde_json::from_str::<IgnoredAny>(&body);
        json.map_err(|error| format!("it makes no JSON: {error}"))?;
        Ok(Bytes::from(body))
    }

    /// The path that creates these.
    ///
    /// # Errors
    /// In words.
    pub(super) fn create(&self, batch: &[Arc<OrderSummary>]) -> Result<String, String> {
        let identities: Vec<_> = batch.iter().map(|order| order.key.identity()).collect();
        self.path(CREATE, &identities)
    }

    /// The path that finds these.
    ///
    /// # Errors
    /// In words.
    pub(super) fn find(&self, identities: &[Identity]) -> Result<String, String> {
        self.path(FIND, identities)
    }

    fn path(&self, name: &str, identities: &[Identity]) -> Result<String, String> {
        let encoded = |identity: &Identity| utf8_percent_encode(identity, RESERVED).to_string();
        let identities: Vec<_> = identities.iter().map(encoded).collect();
        let identity = identities.first().map_or("", String::as_str);
        self.render(name, Wanted { identity, identities: &identities })
    }

    /// The path that lists so many after a cursor.
    ///
    /// # Errors
    /// In words.
    pub(super) fn list(&self, after: u64, limit: usize) -> Result<String, String> {
        self.render(LIST, Page { after, limit })
    }

    fn render(&self, name: &str, values: impl Serialize) -> Result<String, String> {
        let template = self.environment.get_template(name).map_err(|error| said(&error))?;
        template.render(Value::from(Serde(values))).map_err(|error| said(&error))
    }
}

/// Without a template.
fn plainly(values: &impl Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(values).map(Bytes::from).map_err(|error| error.to_string())
}

/// An amount in the currency's smallest unit, as some OMSs count: `{{ amount|minor_units(order.currency) }}`. Rounded only on request,
/// for what is informational.
fn minor_units(amount: &str, currency: &str, rounded: Option<bool>) -> Result<String, Error> {
    let currency: Currency = currency.parse().map_err(|_| wrong("minor_units: no currency"))?;
    let units = decimal(amount)?.checked_mul(Decimal::from(10_u64.pow(currency.exponent())));
    let units = units.filter(|units| rounded == Some(true) || units.fract().is_zero());
    let units =
        units.ok_or_else(|| wrong("minor_units: it has more decimals than the currency"))?;
    Ok(units.round().normalize().to_string())
}

/// Two amounts together, exactly: `{{ amount|plus(other) }}`.
fn plus(amount: &str, other: &str) -> Result<String, Error> {
    let sum = decimal(amount)?.checked_add(decimal(other)?);
    sum.map(|sum| sum.to_string()).ok_or_else(|| wrong("plus: too much"))
}

/// All amounts of that name, exactly: `{{ line.taxes|total("amount") }}`.
fn total(of: &Value, name: &str) -> Result<String, Error> {
    of.try_iter()?.try_fold("0".to_owned(), |sum, one| {
        let amount = one.get_attr(name)?;
        plus(&sum, amount.as_str().ok_or_else(|| wrong("total: no amount"))?)
    })
}

/// Whether an amount is none, exactly: `{% if amount is zero %}`.
fn zero(amount: &str) -> Result<bool, Error> {
    Ok(decimal(amount)?.is_zero())
}

/// An identity as its [`word_of`]: `{{ identity|word }}`.
fn word(state: &State<'_, '_>, identity: &str) -> Result<String, Error> {
    match state.name() {
        BODY => Ok(word_of(identity)),
        // In a path it is percent-encoded.
        _ => {
            let identity = percent_decode_str(identity).decode_utf8();
            identity.map(|identity| word_of(&identity)).map_err(|_| wrong("word: no text"))
        }
    }
}

/// An identity for an OMS that takes letters, digits, `-` and `_` only, and may not tell `A` from `a`: every byte that is no lower-case
/// letter, digit or `-` becomes `_` and two hexadecimal digits. So no two identities have one word, and no word is an identity.
pub(super) fn word_of(identity: &str) -> String {
    let mut word = String::with_capacity(identity.len());
    for byte in identity.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => word.push(char::from(byte)),
            _ => word.extend(['_', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    word
}

fn hex(half: u8) -> char {
    char::from_digit(u32::from(half), 16).unwrap_or('0')
}

fn decimal(amount: &str) -> Result<Decimal, Error> {
    amount.parse().map_err(|_| wrong("an amount is none"))
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// What is wrong and where, without what a value was.
fn said(error: &Error) -> String {
    match error.line() {
        Some(line) => format!("{} in line {line} of the template", error.kind()),
        None => error.kind().to_string(),
    }
}
