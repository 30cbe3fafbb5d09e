//! Orders, clocks and OMSs for the tests.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{Answer, Buffer, Clock, Envelope, Memory, SystemClock};
use forebay_order::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, LifeCycle, Line, LineKind, Oddity,
    Payment, PaymentState, Shopper, Stated, Tax, TaxLocale, Totals,
};
use forebay_order::{Fingerprint, Format, OrderKey, OrderSummary};
use forebay_processor::oms::ledger::{Ledger, LedgerOptions};
use forebay_processor::oms::sqlite::{Sqlite, SqliteOptions};
use forebay_processor::{Oms, OrderManagement};
use rust_decimal::Decimal;

/// No wait of a test is longer; one that reaches it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Tokio's clock, which a paused runtime moves.
pub(crate) struct TokioClock(tokio::time::Instant);

impl TokioClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for TokioClock {
    fn wall_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The machine's clock, ahead by as much as a test says.
#[derive(Default)]
pub(crate) struct JumpClock(AtomicU64);

impl JumpClock {
    pub(crate) fn jump(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    fn ahead(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for JumpClock {
    fn wall_ms(&self) -> i64 {
        SystemClock.wall_ms() + i64::try_from(self.ahead()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + Duration::from_millis(self.ahead())
    }
}

/// Returns once it is true; looks every few milliseconds.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub(crate) fn buffer(clock: Arc<dyn Clock>) -> Memory {
    Memory::new(10_000, 1 << 30, clock)
}

/// One delivery of a small order.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) format: u8,
    pub(crate) synthetic: bool,
}

impl Delivery {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), format: Format::B2cCommerceXml as u8, synthetic: false }
    }

    /// One product line of 12.50 EUR without tax; an id of `unmappable...` has no currency, one of
    /// `undated...` no date.
    pub(crate) fn body(&self) -> Bytes {
        let currency = match self.id.starts_with("unmappable") {
            true => "",
            false => "<currency>EUR</currency>",
        };
        let date = match self.id.starts_with("undated") {
            true => "",
            false => "<order-date>2026-11-25T15:00:00.000Z</order-date>",
        };
        let text = format!(
            "<order order-no=\"{}\">{date}{currency}\
             <taxation>net</taxation><product-lineitems><product-lineitem>\
             <net-price>12.50</net-price><tax>0.00</tax><gross-price>12.50</gross-price>\
             <product-id>SKU-1</product-id><product-name>Mug</product-name>\
             <quantity unit=\"\">1.0</quantity></product-lineitem></product-lineitems></order>",
            self.id
        );
        Bytes::from(text)
    }

    pub(crate) async fn append(&self, buffer: &impl Buffer) {
        let body = self.body();
        let permit = buffer.admission().admit(body.len()).unwrap();
        let envelope = Envelope {
            format: self.format,
            synthetic: self.synthetic,
            ..Envelope::new(key(&self.id), fingerprint(&self.id), body)
        };
        let receipt = buffer.append(envelope, permit).await.unwrap();
        assert_eq!(receipt.answer(), Answer::Accepted);
    }
}

pub(crate) fn sqlite(path: &Path) -> Sqlite {
    let options = SqliteOptions { test: true, ..SqliteOptions::default() };
    Sqlite::open(path, options, clock()).unwrap()
}

pub(crate) fn ledger(path: &Path, cut_every: Option<u32>) -> Ledger {
    let options = LedgerOptions { cut_every, ..LedgerOptions::default() };
    Ledger::open(path, options, clock()).unwrap()
}

/// Both OMSs, each in its own file of the directory.
pub(crate) fn both(directory: &Path) -> [Oms; 2] {
    [
        Oms::Sqlite(sqlite(&directory.join("oms.sqlite"))),
        Oms::Ledger(ledger(&directory.join("oms.ledger"), None)),
    ]
}

/// The same, the reference OMS over HTTP, and one in a PostgreSQL database of the directory's own, where there is a server to run.
pub(crate) async fn each(directory: &Path) -> Vec<Oms> {
    let mut all = Vec::from(both(directory));
    all.push(crate::reference::oms(directory));
    if let Some(server) = crate::postgres::server::shared() {
        let name = directory.file_name().unwrap().to_str().unwrap();
        all.push(Oms::Postgres(crate::postgres::at(
            &crate::postgres::server::database(server, name).await,
        )));
    }
    all
}

/// Everything the OMS has: identity and how often it was created.
pub(crate) async fn creates(oms: &impl OrderManagement) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = oms.list(after, 1_000).await.unwrap().expect("both can list");
        let Some(last) = page.last() else { return all };
        after = last.cursor;
        all.extend(page.into_iter().map(|listed| (listed.identity, listed.creates)));
    }
}

pub(crate) fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub(crate) fn key(id: &str) -> OrderKey {
    OrderKey::new("forebay", "demo", id)
}

/// A small order of one line.
pub(crate) fn order(id: &str) -> Arc<OrderSummary> {
    let line = Line {
        number: 1,
        kind: LineKind::Product,
        delivery_group: None,
        product_code: "SKU-1".into(),
        name: "Mug".into(),
        quantity: dec("1"),
        unit_price: dec("12.50"),
        line_amount: dec("12.50"),
        adjustments: Vec::new(),
        taxes: Vec::new(),
    };
    let total = dec("12.50");
    Arc::new(OrderSummary {
        key: key(id),
        fingerprint: fingerprint(id),
        order_number: format!("#{id}"),
        ordered_date_text: "2026-11-25T15:00:00Z".into(),
        ordered_date_ms: Some(1_795_618_800_000),
        life_cycle: LifeCycle::Managed,
        currency: "EUR".parse().unwrap(),
        tax_locale: TaxLocale::Net,
        shopper: Shopper::default(),
        billing: None,
        delivery_groups: Vec::new(),
        adjustment_groups: Vec::new(),
        lines: vec![line],
        payments: Vec::new(),
        stated: Stated::default(),
        difference: Decimal::ZERO,
        oddities: Vec::new(),
        totals: Totals {
            product: total,
            total_amount: total,
            grand_total: total,
            ..Totals::default()
        },
    })
}

/// Of 16 bytes that the text decides.
pub(crate) fn fingerprint(text: &str) -> Fingerprint {
    let mut bytes = [0_u8; 16];
    for (at, byte) in text.bytes().enumerate() {
        let slot = &mut bytes[at % 16];
        *slot = slot.wrapping_mul(31).wrapping_add(byte);
    }
    Fingerprint(bytes)
}

pub(crate) fn address(tag: &str) -> Address {
    let part = |name: &str| Some(format!("{name} of {tag}"));
    Address {
        name: part("name"),
        company: part("company"),
        address1: part("address1"),
        address2: part("address2"),
        city: part("city"),
        postal_code: part("postal code"),
        state: part("state"),
        country: part("country"),
        phone: part("phone"),
    }
}

/// The same without what PostgreSQL keeps in no text.
pub(crate) fn without_nul(mut order: Arc<OrderSummary>) -> Arc<OrderSummary> {
    let text = Arc::make_mut(&mut order);
    text.shopper.name = Some("A B".to_owned());
    text.lines.iter_mut().for_each(|line| line.product_code = format!("code {}", line.number));
    order
}

/// An order in which every field has a value of its own, odd ones among them: a NUL, an emoji, right-to-left
/// text, amounts with trailing zeros and 28 digits, a fraction for a quantity.
pub(crate) fn full_order(id: &str) -> Arc<OrderSummary> {
    let adjustment = |amount: &str, group| Adjustment {
        amount: dec(amount),
        tax: dec("-0.190"),
        name: format!("promo {amount}"),
        group,
    };
    let tax = |name: &str, rate: Option<&str>, amount: &str| Tax {
        name: name.into(),
        rate: rate.map(dec),
        amount: dec(amount),
    };
    let line = |number, kind, delivery_group, amount: &str| Line {
        number,
        kind,
        delivery_group,
        product_code: format!("code\u{0}{number}"),
        name: format!("line {number} \u{1f9e6} \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
        quantity: dec("0.3330"),
        unit_price: dec("1234567890123456789.012345678"),
        line_amount: dec(amount),
        adjustments: vec![adjustment("-1.00", None), adjustment("-2.50", Some(1))],
        taxes: vec![tax("VAT", Some("0.19"), "1.90"), tax("", None, "0")],
    };
    Arc::new(OrderSummary {
        ordered_date_text: "25.11.2026 16:00".into(),
        ordered_date_ms: None,
        life_cycle: LifeCycle::Unmanaged,
        currency: "JPY".parse().unwrap(),
        tax_locale: TaxLocale::Gross,
        shopper: Shopper {
            email_normalised: Some(format!("{id}@example.com")),
            email: Some(format!("{id}@Example.com")),
            name: Some("A\u{0}B".into()),
            first_name: Some("A".into()),
            last_name: Some("B".into()),
            company: Some("C & Sons".into()),
            phone: Some("+00 1".into()),
            customer_id: Some("c-1".into()),
        },
        billing: Some(address("billing")),
        delivery_groups: vec![
            DeliveryGroup {
                shipment_id: Some("s1".into()),
                method: Some("express".into()),
                address: Some(address("ship-to")),
            },
            DeliveryGroup { shipment_id: None, method: None, address: Some(Address::default()) },
            DeliveryGroup::default(),
        ],
        adjustment_groups: vec![
            AdjustmentGroup { name: "first".into() },
            AdjustmentGroup { name: "second".into() },
        ],
        lines: vec![
            line(1, LineKind::Product, Some(2), "10.00"),
            line(2, LineKind::DeliveryCharge, Some(0), "-0.01"),
            line(3, LineKind::Fee, Some(1), "7922816251426433759354395033.5"),
            line(4, LineKind::Difference, None, "0.10"),
        ],
        payments: vec![
            Payment {
                method: "card".into(),
                amount: Some(dec("3.10")),
                state: PaymentState::Captured,
                reference: Some("tok_1".into()),
            },
            Payment { state: PaymentState::Authorised, ..Payment::default() },
            Payment::default(),
        ],
        stated: Stated {
            grand_total: Some(dec("1.10")),
            tax_total: Some(dec("1.20")),
            shipping_total: Some(dec("1.30")),
            discount_total: Some(dec("1.40")),
        },
        difference: dec("-0.010"),
        oddities: vec![Oddity::NoLines, Oddity::TotalsDiffer],
        totals: Totals {
            product: dec("1.0"),
            delivery: dec("2.00"),
            fee: dec("3.000"),
            line_adjustment: dec("-4.0"),
            header_adjustment: dec("-5"),
            total_amount: dec("6.10"),
            total_tax_amount: dec("7.00"),
            grand_total: dec("13.10"),
        },
        ..OrderSummary::clone(&order(id))
    })
}
