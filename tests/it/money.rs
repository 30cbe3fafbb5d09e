//! What the shopper was charged arrives as that, whatever an OMS calls its parts.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::presets::{COMMERCETOOLS, DYNAMICS, NETSUITE, Sale, Vendor};

/// Codes and methods that differ by the case of a letter only, and money of each kind.
pub(crate) const RICH: &str = r#"{
  "id": "rich", "placed_at": "2026-11-27T09:00:00Z", "currency": "EUR", "shopper": {"email": "shopper@example.com"},
  "shipments": [{"id": "A", "method": "Standard"}, {"id": "B", "method": "standard"}],
  "lines": [
    {"sku": "mug", "name": "Small", "quantity": 1, "unit_price": "10.00", "amount": "10.00", "tax": "1.90", "shipment": "A"},
    {"sku": "MUG", "name": "Large", "quantity": 2, "unit_price": "20.00", "amount": "40.00", "tax": "7.60", "shipment": "B",
     "discounts": [{"name": "two", "amount": "5.00", "tax": "0.95"}]},
    {"sku": "mug", "name": "Small", "quantity": 1, "unit_price": "10.00", "amount": "10.00", "tax": "1.90", "shipment": "B"}],
  "discounts": [{"name": "black friday", "amount": "6.00"}],
  "charges": [{"kind": "delivery", "name": "Standard", "amount": "4.90", "tax": "0.93", "shipment": "A"},
              {"kind": "fee", "name": "Wrapping", "amount": "2.00", "tax": "0.38"}],
  "payments": [{"method": "Visa", "amount": "67.66", "state": "authorised"}],
  "totals": {"grand": "67.66"}
}"#;

/// The one body that arrives of it.
fn arrived(vendor: &Vendor) -> Value {
    let sale = Sale::through(vendor, &json!({}), "");
    sale.sell(&[RICH.to_owned()]);
    sale.all_is_well(1);
    sale.ask("/bodies")[0].clone()
}

fn sum(lines: &Value, of: &str) -> Decimal {
    let lines = lines.as_array().unwrap().iter();
    lines.map(|line| line[of].to_string().parse::<Decimal>().unwrap()).sum()
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

#[test]
fn lines_and_totals_in_dynamics() {
    let order = arrived(&DYNAMICS);
    assert_eq!(order["totalamount"].to_string(), "67.66");
    assert_eq!(sum(&order["order_details"], "extendedamount"), dec("67.66"));
    assert_eq!(sum(&order["order_details"], "tax"), dec("11.76"));
}

#[test]
fn lines_in_netsuite_with_its_own_tax_or_ours() {
    assert_eq!(sum(&arrived(&NETSUITE)["item"]["items"], "amount"), dec("55.90"));
    let more = "[oms.create.values]\ntax_item = \"TAX\"\n";
    let taxed = arrived(&Vendor { more, ..NETSUITE });
    assert_eq!(sum(&taxed["item"]["items"], "amount"), dec("67.66"));
}

#[test]
fn the_total_in_commercetools() {
    let order = &arrived(&COMMERCETOOLS)["resources"][0];
    assert_eq!(order["totalPrice"]["centAmount"], 6_766);
    assert_eq!(order["lineItems"][1]["price"]["value"]["centAmount"], 2_000);
    assert_eq!(order["customLineItems"].as_array().unwrap().len(), 2);
}
