//! Fingerprints are on disk and in the order management system's rows: no release may change them
//! without a new [`Fingerprint::VERSION`]. What they were when version 1 was fixed is pinned here.

use std::path::Path;

use bytes::Bytes;
use forebay_order::{Fingerprint, Format, ReadOptions, read};

use crate::real::orders;

/// Bodies, and the fingerprints of their items.
const PINNED: [(Format, &str, &[&str]); 17] = [
    (Format::Forebay, r#"{"id":"1"}"#, &["0f7af7d0fe896293baf4030443ef9685"]),
    (Format::Forebay, r#"{"version":7,"id":"1"}"#, &["0f7af7d0fe896293baf4030443ef9685"]),
    (
        Format::Forebay,
        "\u{feff} {\n  \"id\" : \"1\" ,\r\n\t\"version\" : 8\n}\n",
        &["0f7af7d0fe896293baf4030443ef9685"],
    ),
    (
        Format::Forebay,
        r#"{"id":"1","updated":[1,{}],"version":3,"x":{"version":1}}"#,
        &["5f3e22fdbd1ffe6426b507b7e9ef0bda"],
    ),
    (
        Format::Forebay,
        r#"{"id":1.0,"x":[ 1e2 , -0.50,true ,null, { } ,[ ] ],"x":"twice"}"#,
        &["d2b47d7080aeecc28886df5c0f152129"],
    ),
    (
        Format::Forebay,
        r#"{"id":"\u0031","ver\u0073ion":1,"note":"a \" b \\ \ud83d\ude00 é 😀"}"#,
        &["c6237da4077a38399c07fcf22dc4b46c"],
    ),
    (
        Format::Forebay,
        r#"{"id":"1","note":"4111 1111 1111 1111","card":{"cvv":123}}"#,
        &["e47d8cc8251f13f183d7bbb556f16232"],
    ),
    (
        Format::Forebay,
        "[{\"id\":1},{\"id\":2 }]",
        &["7eb500fca7774a3e1554f3dadadc0849", "ff98ff991a111a6e27fc49d686217831"],
    ),
    (
        Format::Forebay,
        "{\"id\":1,\"a\":\"b\"}\n\n{\"id\":2}\n",
        &["3f42191bb8d67e3eafe74aeeedb4b0b1", "ff98ff991a111a6e27fc49d686217831"],
    ),
    (
        Format::Forebay,
        r#"{"meta":{"a":1},"data":{"orders":[{"id":1},{"a":0,"id":2}]}}"#,
        &["7eb500fca7774a3e1554f3dadadc0849", "f62d28eb2e095ef4f15f978704310209"],
    ),
    (
        Format::Shopify,
        r#"{"id":820982911946154508,"updated_at":"2025-11-28T10:00:00Z","total_price":"10.00","currency":"EUR"}"#,
        &["be535d29aa4d5f8f817be64923af7d89"],
    ),
    (
        Format::WooCommerce,
        r#"{"id":1,"date_modified":"a","date_modified_gmt":"b","total":"1.00","_links":{"self":[]}}"#,
        &["ef6d51d17994530f8064ed05ebc62242"],
    ),
    (
        Format::Salesforce,
        r#"{"orderSummaryGraphs":[{"orderSummaryGraphId":"g1","purchaseDetails":[{"referenceId":"o","attributes":{"attributes":{"type":"OrderSummary"},"ExternalReferenceIdentifier":"E1"}}]}]}"#,
        &["f6cac8c94a36795912c3e4a086063d8b"],
    ),
    (Format::B2cCommerceXml, "<orders/>", &["af1349b9f5f9a1a6a0404dea36dcc949"]),
    (
        Format::B2cCommerceXml,
        "<orders xmlns='urn:o'><order order-no='1'><currency>EUR</currency></order>\n\
         <order mode=\"delete\" order-no=\"2\"/></orders>",
        &["2fbcbcc2a635db9b9212f09b809c31bc", "b70252c37f66418508817845026678d1"],
    ),
    (
        Format::B2cCommerceXml,
        "<?xml version='1.0'?><o:order xmlns:o='urn:o' order-no=' 3 '>\n  <o:invoice-no>9</o:invoice-no>\
         <o:status><o:order-status>NEW</o:order-status><o:export-status>X</o:export-status></o:status>\
         <!-- c --><o:note z='1' b='&lt;&#x41;\n\t'> a &amp; <![CDATA[<b>]]>\r\n c é </o:note></o:order>",
        &["8e683ce77bbcf27b25014c77c1e7a6f5"],
    ),
    (
        Format::B2cCommerceXml,
        "<order order-no='4'><a/><a></a><b> </b><custom>x<c/>y</custom></order>",
        &["e1d13596d6fd4ac59ca6611c9185a68f"],
    ),
];

fn fingerprints(format: Format, body: Bytes) -> Vec<String> {
    let items = read(format, &body, &ReadOptions::default()).into_iter().flatten().flatten();
    items.map(|item| item.fingerprint.to_string()).collect()
}

#[test]
fn fingerprints_are_what_they_were() {
    assert_eq!(Fingerprint::VERSION, 1);
    for (format, body, pinned) in PINNED {
        let found = fingerprints(format, Bytes::from_static(body.as_bytes()));
        assert_eq!(found, pinned, "{body}");
    }
}

/// BLAKE3, cut to 32 digits, over the fingerprints of every real file of a folder, a line each.
const REAL: [(Format, &str, &str); 4] = [
    (Format::Salesforce, "salesforce_hso", "7ff0ad582cdc6272445fe04bada26602"),
    (Format::B2cCommerceXml, "sfcc_xml", "c547c60d3114b110bf928b81699fd8da"),
    (Format::Shopify, "shopify", "0c56286d786c0ba6bb47a34a9adffb36"),
    (Format::WooCommerce, "woocommerce", "ffbd477f9b3b2febc93786825082518f"),
];

#[test]
fn fingerprints_of_real_orders_are_what_they_were() {
    let Some(root) = orders() else { return };
    for (format, folder, pinned) in REAL {
        let mut all = blake3::Hasher::new();
        for file in files(&root.join(folder)) {
            for fingerprint in fingerprints(format, std::fs::read(file).unwrap().into()) {
                all.update(fingerprint.as_bytes()).update(b"\n");
            }
        }
        assert_eq!(&all.finalize().to_hex()[..32], pinned, "{folder}");
    }
}

/// All files of a folder and those within it, by their paths.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let all = found.into_iter();
    all.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
