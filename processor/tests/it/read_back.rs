//! An order summary from its rows in any database, written apart from the code that makes the rows.

use std::collections::HashMap;

use forebay_order::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, LifeCycle, Line, LineKind, Oddity,
    Payment, PaymentState, Shopper, Stated, Tax, TaxLocale, Totals,
};
use forebay_order::{Fingerprint, OrderKey, OrderSummary};
use rust_decimal::Decimal;

/// A row's values as text, by column; bytes as hexadecimal digits, truth as 1 or t.
pub(crate) type Row = HashMap<String, Option<String>>;

/// A database with the tables.
pub(crate) trait Tables {
    async fn rows(&self, sql: &str) -> Vec<Row>;

    /// Rows of a table that belong to another's row.
    async fn of(&self, table: &str, owner: &str, id: &str, order: &str) -> Vec<Row> {
        self.rows(&format!("SELECT * FROM {table} WHERE {owner} = {id} ORDER BY {order}")).await
    }

    /// The position of a row by its id.
    async fn position(&self, table: &str, id: Option<String>) -> Option<usize> {
        let rows = self.rows(&format!("SELECT position FROM {table} WHERE id = {}", id?)).await;
        text(&rows[0], "position").parse().ok()
    }

    async fn count(&self, table: &str) -> i64 {
        let rows = self.rows(&format!("SELECT count(*) AS n FROM {table}")).await;
        text(&rows[0], "n").parse().unwrap()
    }
}

fn text(row: &Row, column: &str) -> String {
    option(row, column).unwrap()
}

fn option(row: &Row, column: &str) -> Option<String> {
    row[column].clone()
}

fn flag(row: &Row, column: &str) -> bool {
    matches!(text(row, column).as_str(), "1" | "t")
}

fn decimal(row: &Row, column: &str) -> Decimal {
    text(row, column).parse().unwrap()
}

fn decimal_option(row: &Row, column: &str) -> Option<Decimal> {
    option(row, column).map(|text| text.parse().unwrap())
}

fn fingerprint(row: &Row) -> Fingerprint {
    let hex = text(row, "fingerprint");
    let digits = hex.trim_start_matches("\\x");
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    Fingerprint(bytes.try_into().unwrap())
}

fn address(row: &Row, has: &str, prefix: &str, phone: &str) -> Option<Address> {
    let there = flag(row, has);
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

/// The summary of that key.
pub(crate) async fn summary(tables: &impl Tables, key: &OrderKey) -> OrderSummary {
    let identity = key.identity();
    let sql =
        format!("SELECT * FROM order_summary WHERE external_reference_identifier = '{identity}'");
    let row = tables.rows(&sql).await.remove(0);
    let (id, mut summary) = (text(&row, "id"), head(&row));
    let owner = "order_summary_id";
    for row in tables.of("order_delivery_group_summary", owner, &id, "position").await {
        summary.delivery_groups.push(DeliveryGroup {
            shipment_id: option(&row, "shipment_id"),
            method: option(&row, "order_delivery_method"),
            address: address(&row, "has_address", "deliver_to", "phone_number"),
        });
    }
    for row in tables.of("order_adjustment_group_summary", owner, &id, "position").await {
        summary.adjustment_groups.push(AdjustmentGroup { name: text(&row, "name") });
    }
    for row in tables.of("order_item_summary", owner, &id, "line_number").await {
        summary.lines.push(line(tables, &row).await);
    }
    for row in tables.of("order_payment_summary", owner, &id, "position").await {
        summary.payments.push(Payment {
            method: text(&row, "method"),
            amount: decimal_option(&row, "amount"),
            state: match text(&row, "state").as_str() {
                "unknown" => PaymentState::Unknown,
                "authorised" => PaymentState::Authorised,
                "captured" => PaymentState::Captured,
                other => panic!("{other}"),
            },
            reference: option(&row, "gateway_reference"),
        });
    }
    summary
}

async fn line(tables: &impl Tables, row: &Row) -> Line {
    let (id, owner) = (text(row, "id"), "order_item_summary_id");
    let mut line = Line {
        number: text(row, "line_number").parse().unwrap(),
        kind: match text(row, "type").as_str() {
            "product" => LineKind::Product,
            "delivery_charge" => LineKind::DeliveryCharge,
            "fee" => LineKind::Fee,
            "difference" => LineKind::Difference,
            other => panic!("{other}"),
        },
        delivery_group: {
            let id = option(row, "order_delivery_group_summary_id");
            tables.position("order_delivery_group_summary", id).await
        },
        product_code: text(row, "product_code"),
        name: text(row, "name"),
        quantity: decimal(row, "quantity"),
        unit_price: decimal(row, "unit_price"),
        line_amount: decimal(row, "total_line_amount"),
        adjustments: Vec::new(),
        taxes: Vec::new(),
    };
    for row in tables.of("order_item_adjustment_line_summary", owner, &id, "position").await {
        let group = option(&row, "order_adjustment_group_summary_id");
        line.adjustments.push(Adjustment {
            amount: decimal(&row, "amount"),
            tax: decimal(&row, "total_tax_amount"),
            name: text(&row, "name"),
            group: tables.position("order_adjustment_group_summary", group).await,
        });
    }
    for row in tables.of("order_item_tax_line_item_summary", owner, &id, "position").await {
        line.taxes.push(Tax {
            name: text(&row, "name"),
            rate: decimal_option(&row, "rate"),
            amount: decimal(&row, "amount"),
        });
    }
    line
}

fn head(row: &Row) -> OrderSummary {
    OrderSummary {
        key: OrderKey::parse(&text(row, "external_reference_identifier")).unwrap(),
        fingerprint: fingerprint(row),
        order_number: text(row, "order_number"),
        ordered_date_text: text(row, "ordered_date_text"),
        ordered_date_ms: option(row, "ordered_date_ms").map(|ms| ms.parse().unwrap()),
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
