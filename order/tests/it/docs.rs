//! The pages of docs/formats say what the code's own tables say.

const PAGES: [(&str, &str); 7] = [
    (include_str!("../../src/format/shopify.rs"), include_str!("../../../docs/formats/shopify.md")),
    (
        include_str!("../../src/format/woocommerce.rs"),
        include_str!("../../../docs/formats/woocommerce.md"),
    ),
    (
        include_str!("../../src/format/salesforce.rs"),
        include_str!("../../../docs/formats/salesforce.md"),
    ),
    (include_str!("../../src/format/forebay.rs"), include_str!("../../../docs/formats/forebay.md")),
    (
        include_str!("../../src/format/b2c_commerce_xml.rs"),
        include_str!("../../../docs/formats/b2c-commerce-xml.md"),
    ),
    (
        include_str!("../../src/format/b2c_commerce_xml/summary.rs"),
        include_str!("../../../docs/formats/b2c-commerce-xml.md"),
    ),
    (
        include_str!("../../src/format/forebay/summary.rs"),
        include_str!("../../../docs/formats/forebay.md"),
    ),
];

#[test]
fn every_row_of_a_formats_tables_stands_on_its_page() {
    let mut rows = 0;
    for (code, page) in PAGES {
        for row in code.lines().filter_map(|line| line.strip_prefix("//! ")) {
            if row.starts_with('|') {
                assert!(page.lines().any(|line| line == row), "the page lacks: {row}");
                rows += 1;
            }
        }
    }
    assert!(rows > 80, "{rows}");
}

#[test]
fn every_masked_pointer_stands_on_its_page() {
    let mut found = 0;
    for (code, page) in PAGES {
        let list = code.split("masked: &[").nth(1).and_then(|rest| rest.split(']').next());
        for pointer in list.into_iter().flat_map(|list| list.split('"').skip(1).step_by(2)) {
            assert!(page.contains(&format!("- `{pointer}`")), "the page lacks: {pointer}");
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}
