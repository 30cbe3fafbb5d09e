//! The JSON module with a small format of its own.

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;

use super::lex::{Lexer, Rules, Scan};
use super::*;
use crate::MaskedSpan;

/// An order with an id, a total and lines.
struct Small;

#[derive(Default, Deserialize)]
#[serde(default, expecting = "an order object")]
struct SmallOrder<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    total: Option<Amount>,
    #[serde(borrow)]
    name: Label<'a>,
    lines: List<SmallLine>,
}

#[derive(Default, Deserialize)]
#[serde(default, expecting = "a line object")]
struct SmallLine {
    price: Option<Amount>,
}

impl JsonFormat for Small {
    type Order<'a> = SmallOrder<'a>;

    const SHAPE: Shape = Shape {
        wrappers: &["order", "orders", "data", "refunds"],
        id: "id",
        volatile: &["updated_at"],
        masked: &["/note", "/attributes/*/value/**", "/payment/**"],
    };

    fn facts(order: &SmallOrder<'_>, wrapper: Option<&str>) -> Result<Facts, Fault> {
        Ok(Facts {
            id: order.id.as_ref().and_then(Text::given).map(str::to_owned),
            number: wrapper.unwrap_or_default().to_owned(),
            amount: order.total.and_then(|total| total.0),
            email: order.name.owned(),
            products: order.lines.iter().filter(|line| line.price.is_some()).count(),
            lines: order.lines.iter().filter(|line| line.price.is_some()).count(),
            ..Facts::only(Readiness::Pending)
        })
    }
}

fn read_with(body: &str, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    read::<Small>(&Bytes::copy_from_slice(body.as_bytes()), options)
}

fn items(body: &str) -> Vec<ItemResult> {
    read_with(body, &ReadOptions::default()).unwrap()
}

fn one(body: &str) -> Item {
    let mut items = items(body);
    assert_eq!(items.len(), 1, "{body}");
    items.remove(0).unwrap()
}

/// The fault of a body with one item, wherever it is told.
fn fault(body: &str) -> Unreadable {
    match read_with(body, &ReadOptions::default()) {
        Err(fault) => fault,
        Ok(mut items) => {
            assert_eq!(items.len(), 1, "{body}");
            items.remove(0).unwrap_err()
        }
    }
}

fn ids(items: &[ItemResult]) -> Vec<Option<&str>> {
    items.iter().map(|item| item.as_ref().ok().and_then(|item| item.id.as_deref())).collect()
}

// === items ===

#[test]
fn one_object_an_array_lines_and_wrappers_give_the_same_items() {
    let order = r#"{"id":1,"total":"2.50"}"#;
    let fingerprint = one(order).fingerprint;
    for body in [
        order.to_owned(),
        format!("\u{feff}{order}"),
        format!(" \r\n\t{order}\n"),
        format!("[{order}]"),
        format!("{order}\n"),
        format!("{{\"order\":{order}}}"),
        format!("{{\"orders\":[{order}]}}"),
        format!("{{\"data\":{{\"orders\":[{order}]}}}}"),
        format!("{{\"page\":{{\"size\":1}},\"data\":{order},\"more\":false}}"),
        "{ \"id\" : 1 ,\n \"total\" : \"2.50\" }".to_owned(),
    ] {
        let item = one(&body);
        assert_eq!(item.fingerprint, fingerprint, "{body}");
        assert_eq!(item.id.as_deref(), Some("1"));
        assert_eq!(item.bytes, body.as_bytes()[item.span.clone()], "{body}");
        assert!(item.bytes.starts_with(b"{") && item.bytes.ends_with(b"}"));
    }
    let two = items(&format!("{order}\n\n  {}\r\n", order.replace('1', "2")));
    assert_eq!(ids(&two), [Some("1"), Some("2")]);
    assert_eq!(two[0].as_ref().unwrap().fingerprint, fingerprint);
}

#[test]
fn the_innermost_wrapper_is_told_and_an_order_with_such_a_member_is_no_wrapper() {
    assert_eq!(one(r#"{"data":{"order":{"id":1}}}"#).number, "order");
    for order in [
        r#"{"refunds":[],"id":7}"#,
        r#"{"refunds":[{"id":1},{"id":2}],"id":7}"#,
        r#"{"refunds":[{"id":1,}],"id":7}"#.replace(",}", "}").as_str(),
        r#"{"id":7,"order":{"id":8}}"#,
        r#"{"order":{"id":8},"i\u0064":7}"#,
        r#"{"refunds":[1,2],"x":{"data":[]},"id":7}"#,
    ] {
        let item = one(order);
        assert_eq!((item.id.as_deref(), item.number.as_str()), (Some("7"), ""), "{order}");
        assert_eq!(item.bytes, order.as_bytes());
        assert_eq!(one(&format!("{{\"order\":{order}}}")).fingerprint, item.fingerprint);
        let listed = items(&format!("[{order},{order}]"));
        assert_eq!(ids(&listed), [Some("7"), Some("7")], "{order}");
    }
    assert_eq!(one(r#"{"order":null,"total":1}"#).number, "", "null wraps nothing");
    let twice = fault(r#"{"order":{"id":1},"orders":[{"id":2}]}"#);
    assert_eq!(twice.kind, UnreadableKind::DuplicateMember);
}

#[test]
fn pitfall_18_a_fault_that_leaves_values_whole_condemns_its_item_alone() {
    let body =
        r#"[{"id":1},{"id":2,"x":"\ud83d"},{"id":3,"total":"1,000.00"},{"id":4},5,[6],{"id":7}]"#;
    let items = items(body);
    let good = [Some("1"), None, None, Some("4"), None, None, Some("7")];
    assert_eq!(ids(&items), good);
    let told = |at: usize| {
        let fault = items[at].as_ref().unwrap_err();
        (fault.kind, fault.pointer.as_deref(), fault.line, fault.column)
    };
    assert_eq!(told(1), (UnreadableKind::Encoding, Some("/x"), 1, 24));
    assert_eq!(told(2), (UnreadableKind::Value, Some("/total"), 1, 49));
    assert_eq!(told(4).0, UnreadableKind::Value);
    assert_eq!(told(5).0, UnreadableKind::Value);
}

#[test]
fn a_bad_line_condemns_only_itself() {
    let good = r#"{"id":1}"#;
    let body = format!("{good}\n{{\"id\":2,\n\n{{\"id\":3}} x\n  {{\"id\":4}}\nnonsense\n{good}");
    let items = items(&body);
    assert_eq!(ids(&items), [Some("1"), None, None, Some("4"), None, Some("1")]);
    let line = |at: usize| items[at].as_ref().unwrap_err().line;
    assert_eq!((line(1), line(2), line(4)), (2, 4, 6));
    let first = format!("{{\"id\":0,,}}\n{good}\n");
    let items = self::items(&first);
    assert_eq!(ids(&items), [None, Some("1")], "the first line may be the bad one");
    let wrapped = format!("{{\"order\":{good}}}\n{{\"orders\":[{good},{good}]}}\n");
    assert_eq!(self::items(&wrapped).len(), 3, "a line may be a wrapper");
}

#[test]
fn what_cannot_be_taken_apart_is_one_fault_of_the_body() {
    for (body, line, column) in [
        ("", 1, 1),
        ("  \n ", 2, 2),
        (r#"{"id":1"#, 1, 8),
        (r#"{"id":1} x"#, 1, 10),
        (r#"{"id":1,}"#, 1, 9),
        ("[{\"id\":1},\n{\"id\":}]", 2, 7),
        (r#"[{"id":1}"#, 1, 10),
        (r#"[{"id":1} {"id":2}]"#, 1, 11),
        (r#"{'id':1}"#, 1, 2),
        ("{\"id\":\"é\u{1}\"}", 1, 9),
        (r#"{"id":01}"#, 1, 8),
        (r#"{"id":"\x"}"#, 1, 8),
        (r#"{"id":"\u12g4"}"#, 1, 12),
        (r#"{"id":NaN}"#, 1, 7),
        (r#"{"id":tru}"#, 1, 7),
        (r#"{"id":+1}"#, 1, 7),
        (r#"{"id":1.}"#, 1, 9),
        (r#"{"id":"a"#, 1, 9),
        ("webhook_id=12", 1, 1),
        ("{\"orders\":[\n{\"id\":1},\n{\"id\":2}\n", 4, 1),
        ("{\"orders\":[\n{\"id\":1}\n", 3, 1),
    ] {
        let fault = read_with(body, &ReadOptions::default()).unwrap_err();
        assert_eq!(fault.kind, UnreadableKind::Syntax, "{body}");
        assert_eq!((fault.line, fault.column), (line, column), "{body}: {fault}");
    }
    for empty in ["[]", r#"{"orders":[]}"#, " [ ] "] {
        let fault = read_with(empty, &ReadOptions::default()).unwrap_err();
        assert_eq!(fault.kind, UnreadableKind::Value, "{empty}");
    }
    assert_eq!(fault("12").kind, UnreadableKind::Value);
    assert_eq!(fault("\"text\"").kind, UnreadableKind::Value);
}

#[test]
fn limits_are_clear_faults() {
    let limits = Limits { item_bytes: 30, items: 2, depth: 4, lines: 1 };
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let read = |body: &str| read_with(body, &options);
    let three = read(r#"[{"id":1},{"id":2},{"id":3}]"#).unwrap_err();
    assert_eq!(three.kind, UnreadableKind::TooLarge);
    let lines = read("{\"id\":1}\n{\"id\":2}\n{\"id\":3}").unwrap_err();
    assert_eq!(lines.kind, UnreadableKind::TooLarge);
    let long = read(r#"[{"id":1,"name":"longer than thirty"},{"id":2}]"#).unwrap();
    assert_eq!(long[0].as_ref().unwrap_err().kind, UnreadableKind::TooLarge);
    assert_eq!(long[1].as_ref().unwrap().id.as_deref(), Some("2"));
    let fewer = Limits { lines: 1, ..Limits::default() };
    let options = ReadOptions { limits: fewer, ..ReadOptions::default() };
    let many = read_with(r#"{"lines":[{"price":1},{"price":1}]}"#, &options);
    assert_eq!(many.unwrap()[0].as_ref().unwrap_err().kind, UnreadableKind::TooLarge);
    let deep = read(r#"[{"id":1,"x":[[[[]]]]},{"id":2}]"#).unwrap();
    assert_eq!(deep[0].as_ref().unwrap_err().kind, UnreadableKind::Depth);
    assert_eq!(deep[1].as_ref().unwrap().id.as_deref(), Some("2"));
}

#[test]
fn a_list_bomb_ends_before_it_is_decoded_whole() {
    let lines = |count: usize| format!(r#"{{"id":1,"lines":[{}{{}}]}}"#, "{},".repeat(count - 1));
    assert!(items(&lines(50_000))[0].is_ok());
    let fault = fault(&lines(50_001));
    assert_eq!(fault.kind, UnreadableKind::TooLarge);
    assert_eq!(fault.message, field::TOO_MANY);
    let two = format!("[{},{}]", lines(30_000), lines(30_000));
    assert!(items(&two).iter().all(Result::is_ok), "counted for each item");
}

/// Wrappers whose items are taken back, since an id comes late, and a fault in each: every one of them
/// was looked for from the start of the body. Took minutes then, and less than a second optimised.
#[test]
#[expect(clippy::disallowed_methods, reason = "the time it takes is what is tested")]
fn faults_that_are_taken_back_cost_nothing() {
    let one = format!(r#"{{"data":{{"orders":[{}0],"id":1}},"id":1}},"#, "0,".repeat(100));
    let body = format!("[{}0]", one.repeat(9_000));
    let began = std::time::Instant::now();
    let items = items(&body);
    assert!(items[..9_000].iter().all(Result::is_ok));
    assert_eq!(items[9_000].as_ref().unwrap_err().column, body.len() - 1);
    assert!(began.elapsed().as_secs() < 60, "it took {:?}", began.elapsed());
}

#[test]
fn kept_bytes_that_are_nested_too_deep_are_a_fault() {
    let deep = format!(r#"{{"id":1,"x":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    let read = decode::<Small, _>(deep.as_bytes(), |order| order.lines.len());
    assert_eq!(read.unwrap_err().kind, UnreadableKind::Depth);
}

// === faults tell where ===

#[test]
fn a_wrong_value_is_told_by_pointer_line_and_column() {
    let body = "{\n \"id\": 1,\n \"lines\": [ {\"price\": 1},\n  {\"price\": \"é1,000.00\"} ]\n}";
    let fault = fault(body);
    assert_eq!(fault.kind, UnreadableKind::Value);
    assert_eq!(fault.pointer.as_deref(), Some("/lines/1/price"));
    assert_eq!((fault.line, fault.column), (4, 13));
    assert!(!fault.to_string().contains("000"), "no value from the body: {fault}");
    for (body, pointer) in [
        (r#"{"id":{"secret":1}}"#, "/id"),
        (r#"{"id":true}"#, "/id"),
        (r#"{"id":1,"lines":"secret"}"#, "/lines"),
        (r#"{"id":1,"lines":[1]}"#, "/lines/0"),
        (r#"{"id":1,"lines":[["9.99"]]}"#, "/lines/0"),
        (r#"{"id":1,"lines":[{"price":{"secret":2}}]}"#, "/lines/0/price"),
        (r#"{"id":1,"total":"secret"}"#, "/total"),
    ] {
        let fault = self::fault(body);
        assert_eq!(fault.kind, UnreadableKind::Value, "{body}");
        assert_eq!(fault.pointer.as_deref(), Some(pointer), "{body}: {fault}");
        assert!(!fault.to_string().contains("secret"), "{fault}");
    }
}

#[test]
fn pitfall_46_a_member_that_is_read_must_not_be_there_twice() {
    for (body, pointer, column) in [
        (r#"{"id":1,"id":1}"#, "/id", 14),
        (r#"{"id":1,"i\u0064":2}"#, "/id", 19),
        (r#"{"id":1,"total":1,"total":"-1"}"#, "/total", 27),
        (r#"{"id":1,"lines":[{"price":1,"price":-1}]}"#, "/lines/0/price", 37),
    ] {
        let fault = fault(body);
        assert_eq!(fault.kind, UnreadableKind::DuplicateMember, "{body}");
        assert_eq!(fault.pointer.as_deref(), Some(pointer), "{body}");
        assert_eq!(fault.column, column, "{body}");
    }
    let harmless = one(r#"{"id":1,"meta":1,"meta":2,"lines":[{"price":1,"x":1,"x":2}]}"#);
    assert_eq!(harmless.lines, 1);
    assert_ne!(
        harmless.fingerprint,
        one(r#"{"id":1,"meta":2,"lines":[{"price":1,"x":2}]}"#).fingerprint
    );
}

#[test]
fn pitfall_49_a_depth_bomb_in_a_member_nobody_reads_is_a_depth_fault() {
    let bomb = format!("{{\"id\":1,\"meta\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let fault = fault(&bomb);
    assert_eq!((fault.kind, fault.line), (UnreadableKind::Depth, 1));
    let open = format!("{{\"id\":1,\"meta\":{}", "[{\"a\":".repeat(500_000));
    assert_eq!(self::fault(&open).kind, UnreadableKind::Depth);
    let body = "[".repeat(1_000_000);
    assert_eq!(self::fault(&body).kind, UnreadableKind::Depth);
    let nested = |depth: usize| {
        format!("{{\"id\":1,\"meta\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    assert_eq!(one(&nested(64)).id.as_deref(), Some("1"), "64 is the limit");
    assert_eq!(self::fault(&nested(65)).kind, UnreadableKind::Depth);
    // No configuration may reach what typed decoders, which recurse, cannot take.
    let limits = Limits { depth: usize::MAX, ..Limits::default() };
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let deep = read_with(&nested(100_000), &options).unwrap();
    assert_eq!(deep[0].as_ref().unwrap_err().kind, UnreadableKind::Depth);
    let allowed = read_with(&nested(126), &options).unwrap();
    assert_eq!(allowed[0].as_ref().unwrap().id.as_deref(), Some("1"));
}

#[test]
fn pitfall_44_half_a_surrogate_pair_is_refused_with_its_place() {
    for half in [r"\ud83d", r"\ude00", r"\ud83d\u0041", r"\ud83dx", r"\ud83d\n"] {
        let fault = fault(&format!("{{\"id\":1,\n\"name\":\"a{half}\"}}"));
        assert_eq!(fault.kind, UnreadableKind::Encoding, "{half}");
        assert_eq!((fault.line, fault.column), (2, 10), "{half}");
        assert_eq!(fault.pointer.as_deref(), Some("/name"));
    }
    let whole = one(r#"{"id":1,"name":"\ud83d\ude00"}"#);
    assert_eq!(whole.email.as_deref(), Some("😀"));
}

#[test]
fn pitfall_45_a_byte_order_mark_is_no_part_of_the_document() {
    let item = one("\u{feff}{\"id\":1}");
    assert_eq!((item.span.clone(), item.bytes.as_ref()), (3..11, b"{\"id\":1}".as_slice()));
    assert_eq!(fault("{\"id\":\u{feff}1}").kind, UnreadableKind::Syntax, "only at the start");
}

#[test]
fn pitfall_43_a_nul_escape_stays_as_it_is() {
    let body = r#"{"id":1,"name":"a\u0000b","note":"\\u0000"}"#;
    let item = one(body);
    assert_eq!(item.bytes, body.as_bytes());
    assert_eq!(item.email.as_deref(), Some("a\0b"));
    let id = fault(r#"{"id":"1\u0000"}"#);
    assert_eq!((id.kind, id.pointer.as_deref()), (UnreadableKind::Value, Some("/id")));
}

#[test]
fn bytes_that_are_no_utf8_condemn_their_item() {
    let mut body = b"[{\"id\":1},{\"id\":2,\"name\":\"".to_vec();
    body.extend_from_slice(b"\xff\xfe\"},{\"id\":3}]");
    let items = read::<Small>(&body.into(), &ReadOptions::default()).unwrap();
    assert_eq!(ids(&items), [Some("1"), None, Some("3")]);
    let fault = items[1].as_ref().unwrap_err();
    assert_eq!((fault.kind, fault.column), (UnreadableKind::Encoding, 27));
    assert_eq!(fault.pointer.as_deref(), Some("/name"));
    for body in [&b"\xff{\"id\":1}"[..], b"{\"page\":\"\xc3\",\"order\":{\"id\":1}}"] {
        let body = Bytes::copy_from_slice(body);
        assert!(read::<Small>(&body, &ReadOptions::default()).is_err());
    }
}

// === numbers, texts, fingerprints ===

#[test]
fn pitfall_24_25_numbers_keep_every_digit_and_may_be_strings() {
    let item = one(r#"{"id":820982911946154508,"total":1234567890123456789.0123}"#);
    assert_eq!(item.id.as_deref(), Some("820982911946154508"));
    assert_eq!(item.amount.unwrap().to_string(), "1234567890123456789.0123");
    let text = one(r#"{"id":"820982911946154508","total":"1234567890123456789.0123"}"#);
    assert_eq!((&text.id, text.amount), (&item.id, item.amount));
    assert_ne!(text.fingerprint, item.fingerprint, "other tokens");
    for (written, exact) in
        [("4.81", "4.81"), ("1.0", "1.0"), ("1e2", "100"), ("-0.10", "-0.10"), ("0", "0")]
    {
        let item = one(&format!("{{\"id\":1,\"total\":{written}}}"));
        assert_eq!(item.amount.unwrap().to_string(), exact);
    }
    assert_eq!(one(r#"{"id":1,"total":0.00}"#).amount.map(|a| a.is_zero()), Some(true));
    assert_eq!(one(r#"{"id":1,"total":null}"#).amount, None);
    assert_eq!(one(r#"{"id":1,"total":""}"#).amount, None);
}

#[test]
fn pitfall_23_a_number_is_kept_as_written_and_the_bytes_are_the_senders() {
    let (long, short) = (one(r#"{"id":1,"total":1.0}"#), one(r#"{"id":1,"total":1}"#));
    assert_eq!(long.bytes.as_ref(), br#"{"id":1,"total":1.0}"#);
    assert_eq!(long.amount, short.amount, "the same money");
    assert_ne!(long.fingerprint, short.fingerprint, "not the same bytes");
}

#[test]
fn pitfall_27_a_decimal_survives_writing_and_reading() {
    for text in ["4.81", "0.10", "1234567890123456789.0123", "-92.00", "16.24"] {
        let amount: Decimal = one(&format!("{{\"id\":1,\"total\":{text}}}")).amount.unwrap();
        let written = serde_json::to_string(&amount).unwrap();
        assert_eq!(written, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Decimal>(&written).unwrap().to_string(), text);
    }
}

#[test]
fn pitfall_21_22_41_text_is_kept_byte_for_byte() {
    let body = "{\"id\":1,\"name\":\"Zoë ₹ 😀 \u{2028} \\u20b9 a\\/b\"}";
    let item = one(body);
    assert_eq!(item.bytes, body.as_bytes());
    assert_eq!(item.email.as_deref(), Some("Zoë ₹ 😀 \u{2028} ₹ a/b"));
}

#[test]
fn a_fingerprint_leaves_out_volatile_members_wherever_they_stand() {
    let plain = one(r#"{"id":1,"name":"a b","lines":[]}"#).fingerprint;
    for body in [
        r#"{"updated_at":1,"id":1,"name":"a b","lines":[]}"#,
        r#"{"id":1,"updated_at":{"a":[1,{"b":2}],"c":"}"},"name":"a b","lines":[]}"#,
        r#"{"id":1,"name":"a b","lines":[],"updated_at":"x"}"#,
        r#"{ "updated_at" : 1 , "id" : 1, "updated_at":2 , "name":"a b","lines":[ ] , "updated\u005fat" : null }"#,
    ] {
        assert_eq!(one(body).fingerprint, plain, "{body}");
    }
    for other in [
        r#"{"id":1,"name":"ab","lines":[]}"#,
        r#"{"id":"1","name":"a b","lines":[]}"#,
        r#"{"id":1,"name":"a b","lines":[],"x":{"updated_at":1}}"#,
        r#"{"name":"a b","id":1,"lines":[]}"#,
        r#"{"id":1,"name":"a b","lines":[{}]}"#,
    ] {
        assert_ne!(one(other).fingerprint, plain, "{other}");
    }
    let ignore = ["name".to_owned(), "lines".to_owned()];
    let options = ReadOptions { fingerprint_ignore: &ignore, ..ReadOptions::default() };
    let read = |body| read_with(body, &options).unwrap().remove(0).unwrap().fingerprint;
    assert_eq!(read(r#"{"id":1,"name":"a b","lines":[]}"#), one(r#"{"id":1}"#).fingerprint);
    assert_eq!(read(r#"{"name":1}"#), one("{}").fingerprint);
    let minified = blake3::hash(br#"{"id":1}"#);
    assert_eq!(one("{ \"id\" : 1 }").fingerprint.0, minified.as_bytes()[..16]);
}

#[test]
fn a_source_pointer_names_text_or_number_and_no_second_one() {
    let read = |pointer, body: &str| {
        let options = ReadOptions { source_pointer: Some(pointer), ..ReadOptions::default() };
        read_with(body, &options).unwrap().remove(0)
    };
    let body = r#"{"id":1,"shop":{"a/b":["x",{"~":"de.example\u002ecom"}],"no":12.50,"t":true}}"#;
    let source = |pointer| read(pointer, body).unwrap().source;
    assert_eq!(source("/shop/a~1b/1/~0").as_deref(), Some("de.example.com"));
    assert_eq!(source("/shop/no").as_deref(), Some("12.50"));
    for none in ["/shop", "/shop/t", "/shop/a~1b/2", "/nothing", "shop/no"] {
        assert_eq!(source(none), None, "{none}");
    }
    for twice in [r#"{"id":1,"shop":{"no":1},"shop":{"x":2}}"#, r#"{"shop":{"no":1,"no":1}}"#] {
        let fault = read("/shop/no", twice).unwrap_err();
        assert_eq!(fault.kind, UnreadableKind::DuplicateMember, "{twice}");
    }
    let control = read("/shop/no", r#"{"id":1,"shop":{"no":"a\nb"}}"#).unwrap_err();
    assert_eq!(control.kind, UnreadableKind::Value);
}

// === masking ===

#[test]
fn card_data_is_masked_in_the_listed_texts_only() {
    let card = "4111 1111 1111 1111";
    let body = format!(
        r#"{{"id":4111111111111111,"sku":"4111111111111111","note":"• {card}","phone":"{card}",
"attributes":[{{"name":"cvv","value":"123"}},{{"value":"4321","name":"CVC"}},{{"name":"size","value":"123"}},
{{"name":"card","value":{{"deep":["\u20224111111111111111"]}}}}],"cvv":"999","payment":{{"number":378282246310005,"security_code":"077","bin":"411111"}}}}"#
    );
    let item = one(&body);
    let stars = "**** **** **** ****";
    let masked = body
        .replacen(&format!("• {card}"), &format!("• {stars}"), 1)
        .replacen(r#""value":"123""#, r#""value":"***""#, 1)
        .replacen("4321", "****", 1)
        .replacen("077", "***", 1)
        .replacen("378282246310005", "\"*************\"", 1)
        .replacen(r"\u20224111111111111111", &format!(r"\u2022{}", "*".repeat(16)), 1);
    assert_eq!(std::str::from_utf8(&item.bytes).unwrap(), masked);
    assert_eq!(item.id.as_deref(), Some("4111111111111111"), "identity is taken before");
    assert_eq!(item.masked.len(), 4 + 1 + 1 + 1 + 1 + 1);
    for span in &item.masked {
        let bytes = &item.bytes[span.start as usize..][..span.len as usize];
        assert!(bytes.iter().all(|b| matches!(b, b'*' | b'"')));
    }
    let again = one(&masked);
    assert!(again.masked.is_empty());
    assert_ne!(again.fingerprint, item.fingerprint, "the fingerprint is taken before masking");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&item.bytes).unwrap()["phone"], card);
}

#[test]
fn a_verification_value_sent_as_a_number_is_masked_and_stays_json() {
    for (sent, kept, runs) in [
        (r#"{"cvv":123}"#, r#"{"cvv":"*"}"#, 1),
        (r#"{"a":[1234],"card_cvc": 1234 ,"n":1}"#, r#"{"a":[1234],"card_cvc": "**" ,"n":1}"#, 1),
        (r#"{"cvc":12,"csc":5}"#, r#"{"cvc":"","csc":0}"#, 2),
        (r#"{"value":77,"name":"cvv"}"#, r#"{"value":"","name":"cvv"}"#, 1),
        (
            r#"{"name":"cvv","value":1234,"cvv":"1234"}"#,
            r#"{"name":"cvv","value":"**","cvv":"****"}"#,
            2,
        ),
        (r#"{"cvv":12345,"cvc":1.5,"csc":-12,"cvn":true,"cvv2":null}"#, "", 0),
        (r#"{"name":"size","value":123,"cvv":[123],"cvv_result":123}"#, "", 0),
    ] {
        let order =
            |payment: &str| format!(r#"{{"id":1,"total":123,"cvv":123,"payment":{payment}}}"#);
        let item = one(&order(sent));
        let kept = if runs == 0 { sent } else { kept };
        assert_eq!(std::str::from_utf8(&item.bytes).unwrap(), order(kept));
        assert_eq!(item.masked.len(), runs, "{sent}");
        let again = decode::<Small, _>(&item.bytes, |order| order.total).unwrap();
        assert_eq!(again.and_then(|total| total.0), Some(Decimal::from(123)));
        assert_eq!(one(&order(kept)).bytes, item.bytes, "once more changes nothing");
    }
}

#[test]
fn a_card_number_sent_as_a_number_is_masked_and_stays_json_of_the_same_length() {
    let stars = r#""**************""#;
    for (sent, kept) in [
        (r#"{"number":4111111111111111}"#, format!(r#"{{"number":{stars}}}"#)),
        (
            r#"[[4111111111111111],{"n": 4111111111111111 }]"#,
            format!(r#"[[{stars}],{{"n": {stars} }}]"#),
        ),
        (
            r#"{"value":4111111111111111,"name":"size"}"#,
            format!(r#"{{"value":{stars},"name":"size"}}"#),
        ),
    ] {
        let order = |payment: &str| format!(r#"{{"id":4111111111111111,"payment":{payment}}}"#);
        let item = one(&order(sent));
        assert_eq!(std::str::from_utf8(&item.bytes).unwrap(), order(&kept));
        assert_eq!(item.bytes.len(), order(sent).len());
        assert!(item.masked.iter().all(|span| span.len == 16), "{:?}", item.masked);
        serde_json::from_slice::<serde_json::Value>(&item.bytes).unwrap();
        assert_eq!(one(&order(&kept)).bytes, item.bytes, "once more changes nothing");
    }
    for kept in [
        r#"{"id":4111111111111111,"card_id":4111111111111111,"receiptId":4111111111111111}"#,
        r#"{"n":4111111111111112,"m":-4111111111111111,"d":4111111111111111.5,"e":4111111111111111e1}"#,
        r#"{"n":41111111111111110,"paid":411111111111}"#,
    ] {
        let order = format!(r#"{{"id":1,"payment":{kept}}}"#);
        assert_eq!(std::str::from_utf8(&one(&order).bytes).unwrap(), order);
    }
}

#[test]
fn spans_count_from_the_item_not_from_the_body() {
    let items = items(r#"[{"id":1},{"id":2,"note":"4111111111111111"}]"#);
    let item = items[1].as_ref().unwrap();
    assert_eq!(item.masked, [MaskedSpan { start: 16, len: 16 }]);
    assert_eq!(item.bytes.as_ref(), br#"{"id":2,"note":"****************"}"#);
}

// === against another parser ===

fn rules() -> Rules<'static> {
    Rules { depth: 100, ..rules_for_kept_bytes() }
}

/// What the typed decoder gives of a text, with every number as its text, if the lexical pass takes it.
fn lexed(text: &str) -> Option<serde_json::Value> {
    let mut lexer = Lexer::default();
    let start = token::blanks(text.as_bytes(), 0);
    match lexer.scan(text.as_bytes(), start, &rules()) {
        Ok(Scan::Value(end)) if token::blanks(text.as_bytes(), end) == text.len() => {
            lexer.soft.is_none().then(|| decode::typed(&lexer.tape, &text[start..end]).unwrap())
        }
        _ => None,
    }
}

/// Every member of an object, in order. A map would drop the first of two with one name, unread.
struct Members(Vec<(String, Box<serde_json::value::RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> serde::de::Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// A value with its numbers as their texts, as serde_json reads it from the original.
fn with_number_texts(text: &str) -> Option<serde_json::Value> {
    fn texts(raw: &serde_json::value::RawValue) -> Option<serde_json::Value> {
        use serde_json::Value;
        use serde_json::value::RawValue;
        let text = raw.get();
        Some(match text.as_bytes()[0] {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let read = members.into_iter().map(|(name, value)| Some((name, texts(&value)?)));
                Value::Object(read.collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                Value::Array(items.iter().map(|item| texts(item)).collect::<Option<_>>()?)
            }
            b'"' => Value::String(serde_json::from_str(text).ok()?),
            b't' | b'f' | b'n' => serde_json::from_str(text).ok()?,
            _ => Value::String(text.to_owned()),
        })
    }
    texts(&serde_json::from_str::<Box<serde_json::value::RawValue>>(text).ok()?)
}

fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        text_token(),
    ];
    scalar.prop_recursive(5, 40, 5, |inner| {
        let blank = prop_oneof![Just(""), Just(" "), Just("\n\t"), Just("\r\n  ")];
        let list = (blank.clone(), prop::collection::vec(inner.clone(), 0..5)).prop_map(
            |(blank, items)| format!("[{blank}{}{blank}]", items.join(&format!("{blank},{blank}"))),
        );
        let members = prop::collection::vec((text_token(), inner), 0..5);
        let object = (blank, members).prop_map(|(blank, members)| {
            let members: Vec<String> =
                members.iter().map(|(k, v)| format!("{k}{blank}:{blank}{v}")).collect();
            format!("{{{blank}{}{blank}}}", members.join(&format!("{blank},{blank}")))
        });
        prop_oneof![list, object]
    })
}

fn text_token() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -!#-\\[\\]-~]{0,12}",
        "[\u{80}-\u{ffff}]{1,4}".prop_filter("no controls", |s| !s.contains('\u{feff}')),
        Just("😀".to_owned()),
        Just("\\n".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\\\".to_owned()),
        Just("\\u00e9".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
        Just("\\u0000".to_owned()),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A text with a few bytes changed, put in or taken out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..4);
    (json_text(), edits).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (place, byte, edit) in edits {
            let byte = if byte < 128 { byte } else { b"{}[]\",:\\-0"[usize::from(byte) % 10] };
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        bytes
    })
}

#[test]
fn both_parsers_read_a_value_whose_name_comes_again() {
    for bad in [r#"{"":"\ude00","":1}"#, r#"{"a":{"":"\ud83d","":1}}"#] {
        assert_eq!((lexed(bad), with_number_texts(bad)), (None, None), "{bad}");
    }
    let twice = r#"{"":1,"":2}"#;
    assert_eq!(lexed(twice), with_number_texts(twice));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// What we accept, serde_json accepts, with the same texts and number texts; what we refuse, it
    /// refuses, but for numbers that it cannot hold.
    #[test]
    fn the_pass_and_serde_json_agree(bytes in damaged()) {
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(text).ok();
        let whole = with_number_texts(text);
        match lexed(text) {
            Some(ours) => prop_assert_eq!(Some(ours), whole),
            // RawValue does not look at surrogates; reading every string does.
            None => prop_assert!(theirs.is_none() || whole.is_none(), "we refuse {text:?}"),
        }
    }

    /// The minified text is the same however it was indented, and minified again it is itself.
    #[test]
    fn the_minified_text_is_the_tokens(text in json_text()) {
        let minify = |text: &str| {
            let mut lexer = Lexer::default();
            lexer.scan(text.as_bytes(), token::blanks(text.as_bytes(), 0), &rules()).unwrap();
            String::from_utf8(lexer.minified).unwrap()
        };
        let minified = minify(&text);
        prop_assert_eq!(&minify(&minified), &minified);
        prop_assert_eq!(with_number_texts(&minified), with_number_texts(&text));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let items = read::<Small>(&bytes.into(), &ReadOptions::default());
        prop_assert!(items.is_err() || items.is_ok_and(|items| !items.is_empty()));
    }

    /// Damaged orders: never a panic; every item's bytes are where its span says; places are in the body.
    #[test]
    fn damaged_bodies_are_items_or_faults(parts in prop::collection::vec(damaged(), 1..4), form in 0..4u8) {
        let orders: Vec<Vec<u8>> =
            parts.iter().map(|part| [b"{\"id\":1,\"x\":", part.as_slice(), b"}"].concat()).collect();
        let body: Bytes = match form {
            0 => orders.concat().into(),
            1 => orders.join(&b'\n').into(),
            2 => [b"[", orders.join(&b',').as_slice(), b"]"].concat().into(),
            _ => [b"{\"orders\":[", orders.join(&b',').as_slice(), b"]}"].concat().into(),
        };
        let options = ReadOptions { source_pointer: Some("/x/0"), ..ReadOptions::default() };
        let lines = body.split(|b| *b == b'\n').count();
        let check = |fault: &Unreadable| {
            prop_assert!(fault.line >= 1 && fault.line <= lines && fault.column >= 1);
            Ok(())
        };
        match read::<Small>(&body, &options) {
            Err(fault) => check(&fault)?,
            Ok(items) => {
                prop_assert!(!items.is_empty());
                for item in items {
                    match item {
                        Err(fault) => check(&fault)?,
                        Ok(item) => {
                            prop_assert_eq!(&item.bytes, &body.slice(item.span.clone()));
                            let read: serde_json::Result<serde_json::Value> =
                                serde_json::from_slice(&item.bytes);
                            prop_assert!(read.is_ok() || read.unwrap_err().to_string().contains("out of range"));
                        }
                    }
                }
            }
        }
    }
}
