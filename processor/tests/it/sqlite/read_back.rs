//! An order summary from its rows, written apart from the code that makes the rows.

use std::path::Path;

use forebay_order::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, LifeCycle, Line, LineKind, Oddity,
    Payment, PaymentState, Shopper, Stated, Tax, TaxLocale, Totals,
};
use forebay_order::{Fingerprint, OrderKey, OrderSummary};
use rusqlite::{Connection, Row};
use rust_decimal::Decimal;

struct Rows(Connection);

impl Rows {
    fn of<T>(
        &self,
        table: &str,
        owner: &str,
        id: i64,
        order: &str,
        read: impl Fn(&Row<'_>) -> T,
    ) -> Vec<T> {
        let sql = format!("SELECT * FROM {table} WHERE {owner} = ?1 ORDER BY {order}");
        let mut statement = self.0.prepare(&sql).unwrap();
        let rows = statement.query_map([id], |row| Ok(read(row))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// The position of a row by its id.
    fn position(&self, table: &str, id: Option<i64>) -> Option<usize> {
        let sql = format!("SELECT position FROM {table} WHERE id = ?1");
        let position: u32 = self.0.query_row(&sql, [id?], |row| row.get(0)).unwrap();
        usize::try_from(position).ok()
    }
}

fn text(row: &Row<'_>, column: &str) -> String {
    row.get(column).unwrap()
}

fn option(row: &Row<'_>, column: &str) -> Option<String> {
    row.get(column).unwrap()
}

fn decimal(row: &Row<'_>, column: &str) -> Decimal {
    text(row, column).parse().unwrap()
}

fn decimal_option(row: &Row<'_>, column: &str) -> Option<Decimal> {
    option(row, column).map(|text| text.parse().unwrap())
}

fn address(row: &Row<'_>, flag: &str, prefix: &str, phone: &str) -> Option<Address> {
    let there: bool = row.get(flag).unwrap();
    let part = |name: &str| option(row, &format!("{prefix}_{name}"));
    let address = Address {
        name: part("name"),
        company: part("company"),
        address1: part("address1"),
        address2: part("address2"),
        city: part("city"),
        postal_code: part("postal_code"),
        state: part("state"),
        country: part("country"),
        phone: option(row, phone),
    };
    assert!(there || address == Address::default());
    there.then_some(address)
}

pub(super) fn summary(path: &Path, key: &OrderKey) -> OrderSummary {
    let rows = Rows(Connection::open(path).unwrap());
    let sql = "SELECT * FROM order_summary WHERE external_reference_identifier = ?1";
    let (id, mut summary) = rows
        .0
        .query_row(sql, [key.identity()], |row| Ok((row.get("id").unwrap(), head(row))))
        .unwrap();
    summary.delivery_groups =
        rows.of("order_delivery_group_summary", "order_summary_id", id, "position", |row| {
            DeliveryGroup {
                shipment_id: option(row, "shipment_id"),
                method: option(row, "order_delivery_method"),
                address: address(row, "has_address", "deliver_to", "phone_number"),
            }
        });
    summary.adjustment_groups =
        rows.of("order_adjustment_group_summary", "order_summary_id", id, "position", |row| {
            AdjustmentGroup { name: text(row, "name") }
        });
    summary.lines = rows
        .of("order_item_summary", "order_summary_id", id, "line_number", |row| line(&rows, row));
    summary.payments =
        rows.of("order_payment_summary", "order_summary_id", id, "position", |row| Payment {
            method: text(row, "method"),
            amount: decimal_option(row, "amount"),
            state: match text(row, "state").as_str() {
                "unknown" => PaymentState::Unknown,
                "authorised" => PaymentState::Authorised,
                "captured" => PaymentState::Captured,
                other => panic!("{other}"),
            },
            reference: option(row, "gateway_reference"),
        });
    summary
}

fn line(rows: &Rows, row: &Row<'_>) -> Line {
    let id: i64 = row.get("id").unwrap();
    Line {
        number: row.get("line_number").unwrap(),
        kind: match text(row, "type").as_str() {
            "product" => LineKind::Product,
            "delivery_charge" => LineKind::DeliveryCharge,
            "fee" => LineKind::Fee,
            "difference" => LineKind::Difference,
            other => panic!("{other}"),
        },
        delivery_group: rows.position(
            "order_delivery_group_summary",
            row.get("order_delivery_group_summary_id").unwrap(),
        ),
        product_code: text(row, "product_code"),
        name: text(row, "name"),
        quantity: decimal(row, "quantity"),
        unit_price: decimal(row, "unit_price"),
        line_amount: decimal(row, "total_line_amount"),
        adjustments: rows.of(
            "order_item_adjustment_line_summary",
            "order_item_summary_id",
            id,
            "position",
            |row| Adjustment {
                amount: decimal(row, "amount"),
                tax: decimal(row, "total_tax_amount"),
                name: text(row, "name"),
                group: rows.position(
                    "order_adjustment_group_summary",
                    row.get("order_adjustment_group_summary_id").unwrap(),
                ),
            },
        ),
        taxes: rows.of(
            "order_item_tax_line_item_summary",
            "order_item_summary_id",
            id,
            "position",
            |row| Tax {
                name: text(row, "name"),
                rate: decimal_option(row, "rate"),
                amount: decimal(row, "amount"),
            },
        ),
    }
}

fn head(row: &Row<'_>) -> OrderSummary {
    OrderSummary {
        key: OrderKey::parse(&text(row, "external_reference_identifier")).unwrap(),
        fingerprint: Fingerprint(row.get("fingerprint").unwrap()),
        order_number: text(row, "order_number"),
        ordered_date_text: text(row, "ordered_date_text"),
        ordered_date_ms: row.get("ordered_date_ms").unwrap(),
        life_cycle: match text(row, "order_life_cycle_type").as_str() {
            "MANAGED" => LifeCycle::Managed,
            "UNMANAGED" => LifeCycle::Unmanaged,
            other => panic!("{other}"),
        },
        currency: text(row, "currency_iso_code").parse().unwrap(),
        tax_locale: match text(row, "tax_locale_type").as_str() {
            "Net" => TaxLocale::Net,
            "Gross" => TaxLocale::Gross,
            other => panic!("{other}"),
        },
        shopper: Shopper {
            email_normalised: option(row, "shopper_email_normalised"),
            email: option(row, "billing_email_address"),
            name: option(row, "shopper_name"),
            first_name: option(row, "shopper_first_name"),
            last_name: option(row, "shopper_last_name"),
            company: option(row, "shopper_company"),
            phone: option(row, "billing_phone_number"),
            customer_id: option(row, "shopper_customer_id"),
        },
        billing: address(row, "has_billing", "billing", "billing_address_phone"),
        delivery_groups: Vec::new(),
        adjustment_groups: Vec::new(),
        lines: Vec::new(),
        payments: Vec::new(),
        stated: Stated {
            grand_total: decimal_option(row, "stated_grand_total"),
            tax_total: decimal_option(row, "stated_tax_total"),
            shipping_total: decimal_option(row, "stated_shipping_total"),
            discount_total: decimal_option(row, "stated_discount_total"),
        },
        difference: decimal(row, "difference"),
        oddities: oddities(&text(row, "oddities")),
        totals: Totals {
            product: decimal(row, "total_product_amount"),
            delivery: decimal(row, "total_delivery_amount"),
            fee: decimal(row, "total_fee_amount"),
            line_adjustment: decimal(row, "total_line_adjustment_amount"),
            header_adjustment: decimal(row, "total_adj_dist_amount"),
            total_amount: decimal(row, "total_amount"),
            total_tax_amount: decimal(row, "total_tax_amount"),
            grand_total: decimal(row, "grand_total_amount"),
        },
    }
}

fn oddities(json: &str) -> Vec<Oddity> {
    let words: Vec<String> = serde_json::from_str(json).unwrap();
    let oddity = |word: String| match word.as_str() {
        "no_lines" => Oddity::NoLines,
        "totals_differ" => Oddity::TotalsDiffer,
        other => panic!("{other}"),
    };
    words.into_iter().map(oddity).collect()
}
