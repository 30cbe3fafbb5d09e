//! Card data sent as JSON numbers, in every JSON format: it never reaches the kept bytes, and they can still be used.

use bytes::Bytes;
use forebay_order::{Format, Item, OrderKey, ReadOptions, read, summarise};
use serde_json::Value;

const CARD: &str = "4111111111111111";

/// A body of each format with a card number and a verification value among the members looked at.
fn bodies() -> [(Format, String); 4] {
    let salesforce = format!(
        r#"{{"orderSummaryGraphId":"g1","purchaseSupportDetails":[],"purchaseDetails":[
        {{"referenceId":"o","attributes":{{"attributes":{{"type":"OrderSummary"}},"ExternalReferenceIdentifier":"r@s@1",
        "OrderNumber":"1","CurrencyIsoCode":"USD","OrderedDate":"2026-11-25T15:04:05.123Z"}}}},
        {{"referenceId":"p","attributes":{{"attributes":{{"type":"OrderPaymentSummary"}},"OrderSummaryId":"@{{o.id}}",
        "InputCardNumber":{CARD},"CVV":123}}}}]}}"#
    );
    let forebay = format!(
        r#"{{"id":"1","currency":"EUR","placed_at":"2026-11-25T15:04:05Z","note":{CARD},"lines":[],"totals":{{"grand":"0"}},
        "payments":[{{"method":{CARD},"number":{CARD},"card":{{"number":{CARD},"cvv":123}},"attributes":{{"n":{CARD}}}}}]}}"#
    );
    let shopify = format!(
        r#"{{"id":1,"currency":"EUR","total_price":"1.00","financial_status":"paid","note":{CARD},"line_items":[],
        "note_attributes":[{{"name":"cvv","value":123}},{{"name":"n","value":{CARD}}}],
        "payment_details":{{"credit_card_number":{CARD}}}}}"#
    );
    let woocommerce = format!(
        r#"{{"id":1,"status":"processing","currency":"EUR","total":"1.00","customer_note":{CARD},"payment_method_title":{CARD},
        "meta_data":[{{"id":7,"key":"_card_cvc","value":123}},{{"id":8,"key":"n","value":{CARD}}}]}}"#
    );
    [
        (Format::Salesforce, salesforce),
        (Format::Forebay, forebay),
        (Format::Shopify, shopify),
        (Format::WooCommerce, woocommerce),
    ]
}

fn one(format: Format, body: &Bytes) -> Item {
    let mut items = read(format, body, &ReadOptions::default()).unwrap();
    assert_eq!(items.len(), 1);
    items.remove(0).unwrap()
}

#[test]
fn card_data_sent_as_numbers_is_masked_in_every_json_format_and_the_order_still_maps() {
    for (format, body) in bodies() {
        let body = Bytes::from(body);
        let (item, name) = (one(format, &body), format.name());
        let kept = std::str::from_utf8(&item.bytes).unwrap();
        assert!(!kept.contains(CARD) && !kept.contains(":123"), "{name}: {kept}");
        let original = &body[item.span.clone()];
        assert_eq!(item.bytes.len(), original.len(), "{name}");
        let mut restored = item.bytes.to_vec();
        for span in &item.masked {
            let range = span.start as usize..(span.start + span.len) as usize;
            restored[range.clone()].copy_from_slice(&original[range]);
        }
        assert_eq!(restored, original, "{name}: nothing but the spans differs");
        serde_json::from_str::<Value>(kept).unwrap();
        let key = OrderKey::new(name, "demo", item.id.clone().unwrap());
        summarise(format, key, item.fingerprint, &item.bytes).unwrap();
    }
}
