//! Bad and hostile bodies at the real door, for a program and for a webhook: an answer that helps, nothing
//! kept that should not be, memory flat, and the next good order served and summarised.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::bodies::{
    JSON, came_to, exception, kind, own, post, post_with, problem, server, shopify, until_summary,
    xml, xml_order,
};
use crate::harness::{Forebay, Request, WAIT};

/// A body nobody can read, and what a program is told about it.
struct Bad {
    name: &'static str,
    body: Vec<u8>,
    /// `errors[0].kind`.
    kind: &'static str,
    /// `errors[0].pointer`, where the fault has one.
    pointer: Option<&'static str>,
}

impl Bad {
    fn new(name: &'static str, body: impl Into<Vec<u8>>, kind: &'static str) -> Self {
        Self { name, body: body.into(), kind, pointer: None }
    }

    fn at(self, pointer: &'static str) -> Self {
        Self { pointer: Some(pointer), ..self }
    }
}

/// A good order of another channel than the bad ones becomes a summary.
fn is_well(server: &Forebay) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("well-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let answer = post(server, "own-api", own(&id, "10.00"));
    assert_eq!(came_to(&answer), (202, "accepted".to_owned()), "{}", answer.text());
    until_summary(server, &format!("own-api:demo:{id}"));
}

/// 400 with the place for the program and nothing kept; 200 for the webhook, bytes kept as they came.
fn check(server: &Forebay, family: &str, bad: &Bad) {
    let name = bad.name;
    let refused = post(server, &format!("{family}-api"), &bad.body);
    let document = problem(&refused, 400, "unreadable");
    let error = &document["errors"][0];
    assert_eq!(error["kind"], bad.kind, "{name}: {document}");
    for member in ["line", "column"] {
        assert!(error[member].as_u64().is_some_and(|at| at > 0), "{name}: {document}");
    }
    assert!(error["detail"].as_str().is_some_and(|text| text.len() > 10), "{name}: {document}");
    if let Some(pointer) = bad.pointer {
        assert_eq!(error["pointer"], pointer, "{name}: {document}");
    }
    let kept = post(server, &format!("{family}-hook"), &bad.body);
    assert_eq!(came_to(&kept), (200, "exception".to_owned()), "{name}: {}", kept.text());
    assert_eq!(kept.json()["state"], "exception", "{name}");
    let row = exception(server, &kept);
    assert_eq!(row["category"], "unreadable", "{name}: {row}");
    assert_eq!(row["body"], String::from_utf8_lossy(&bad.body).as_ref(), "{name}: {row}");
    let again = post(server, &format!("{family}-hook"), &bad.body);
    assert_eq!(came_to(&again), (200, "duplicate".to_owned()), "{name}: the sender's retry");
}

/// Every row, then that the door still serves and that no row became an order.
fn check_all(family: &str, rows: &[Bad]) {
    let server = server("");
    rows.iter().for_each(|bad| check(&server, family, bad));
    is_well(&server);
    assert_eq!(server.summaries().len(), 1, "only the good order reached the OMS");
    let open = server.view("/v1/status")["buffer"]["exceptions"]["unreadable"].as_u64();
    assert_eq!(open, Some(rows.len() as u64), "one row each, none from the program's channel");
}

fn invalid_utf8(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.windows(4).position(|four| four == b"Bowl").unwrap();
    bytes[at] = 0xFF;
    bytes
}

#[test]
fn json_that_cannot_be_read() {
    let good = shopify(1, 1, "10.00");
    let nested = |depth: usize| {
        let bomb = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        good.replace(r#""Bowl""#, &bomb)
    };
    let duplicate = |from: &str, to: &str| good.replace(from, to);
    check_all(
        "shop",
        &[
            Bad::new("empty", "", "syntax"),
            Bad::new("no JSON", "this is no order", "syntax"),
            Bad::new("an open brace", "{", "syntax"),
            Bad::new("a comma too many", r#"{"id":1,}"#, "syntax"),
            Bad::new("cut in the middle", &good[..good.len() / 2], "syntax"),
            Bad::new("something behind the end", format!("{good} x"), "syntax"),
            Bad::new("a raw line break in a text", good.replace("Bowl", "Bo\nwl"), "syntax"),
            Bad::new("invalid UTF-8", invalid_utf8(&good), "encoding"),
            Bad::new("pitfall 44: half a pair", good.replace("Bowl", r"\ud83d"), "encoding"),
            Bad::new("pitfall 44: the other half", good.replace("Bowl", r"\ude00x"), "encoding"),
            Bad::new(
                "pitfall 46: two ids",
                duplicate(r#""id":1,"name""#, r#""id":1,"id":2,"name""#),
                "duplicate_member",
            )
            .at("/id"),
            Bad::new(
                "pitfall 46: two totals",
                duplicate(r#""total_price""#, r#""total_price":"1.00","total_price""#),
                "duplicate_member",
            )
            .at("/total_price"),
            Bad::new("pitfall 30: a thousand", shopify(1, 1, "1,000.00"), "value"),
            Bad::new("no id", good.replace(r#""id":1,"name""#, r#""name""#), "missing_id"),
            Bad::new("pitfall 49: 65 deep", nested(65), "depth"),
            Bad::new("pitfall 49: 10,000 deep", nested(10_000), "depth"),
            Bad::new("pitfall 49: a million deep", nested(1_000_000), "depth"),
            Bad::new("pitfall 49: objects", r#"{"a":"#.repeat(100_000), "depth"),
        ],
    );
}

#[test]
fn xml_that_cannot_be_read() {
    let good = xml(&[xml_order("1", "NEW", "10.00")]);
    let declared = |declaration: &str| good.replace("<orders", &format!("{declaration}<orders"));
    let mut laughs = String::from(r#"<!DOCTYPE orders [<!ENTITY l0 "lol">"#);
    for n in 1..10 {
        let ten = format!("&l{};", n - 1).repeat(10);
        laughs.push_str(&format!(r#"<!ENTITY l{n} "{ten}">"#));
    }
    laughs.push_str("]>");
    let laughs = declared(&laughs).replace("Bowl", "&l9;");
    let nested = |depth: usize| {
        let bomb = format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        good.replacen("<currency>", &format!("{bomb}<currency>"), 1)
    };
    let utf16: Vec<u8> =
        [0xFEFF].into_iter().chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    check_all(
        "xml",
        &[
            Bad::new("empty", "", "syntax"),
            Bad::new("no XML", "this is no order", "syntax"),
            Bad::new("an open bracket", "<", "syntax"),
            Bad::new("cut in the middle", &good[..good.len() / 2], "syntax"),
            Bad::new("tags that cross", good.replace("</currency>", "</status>"), "syntax"),
            Bad::new("an attribute without quotes", good.replace(r#""1""#, "1"), "syntax"),
            Bad::new("invalid UTF-8", invalid_utf8(&good), "encoding"),
            Bad::new("UTF-16", utf16, "encoding"),
            Bad::new("billion laughs", laughs, "dtd"),
            Bad::new(
                "an external entity",
                declared(r#"<!DOCTYPE orders [<!ENTITY x SYSTEM "file:///etc/hostname">]>"#)
                    .replace("Bowl", "&x;"),
                "dtd",
            ),
            Bad::new(
                "an external DTD",
                declared(r#"<!DOCTYPE orders SYSTEM "http://127.0.0.1:1/orders.dtd">"#),
                "dtd",
            ),
            Bad::new("an undeclared entity", good.replace("Bowl", "&bowl;"), "dtd"),
            Bad::new("half a pair by number", good.replace("Bowl", "&#xD83D;"), "syntax"),
            Bad::new("NUL by number", good.replace("Bowl", "&#0;"), "syntax"),
            Bad::new("pitfall 49: 65 deep", nested(65), "depth"),
            Bad::new("pitfall 49: 100,000 deep", nested(100_000), "depth"),
        ],
    );
}

#[test]
fn odd_bytes_that_are_an_order_all_the_same() {
    let server = server("");
    let bom = |text: String| [b"\xEF\xBB\xBF".as_slice(), text.as_bytes()].concat();
    // (name, id, body, the text its line has in the OMS)
    let rows = [
        ("pitfall 45: a byte order mark", 21, bom(shopify(21, 1, "10.00")), "Bowl"),
        (
            "pitfall 43: NUL, and a backslash before u0000",
            22,
            shopify(22, 1, "10.00").replace("Bowl", r"a\u0000b \\u0000").into_bytes(),
            "a\0b \\u0000",
        ),
        (
            "pitfall 41: an emoji, whole and as a pair of escapes",
            23,
            shopify(23, 1, "10.00").replace("Bowl", r"🛒 \ud83d\ude00").into_bytes(),
            "🛒 😀",
        ),
        (
            "pitfall 46: members nobody reads, twice",
            24,
            shopify(24, 1, "10.00")
                .replace(r#""name""#, r#""tags":"a","tags":"b","name""#)
                .into_bytes(),
            "Bowl",
        ),
    ];
    for (name, id, body, text) in rows {
        for channel in ["shop-api", "shop-hook"] {
            let answer = post(&server, channel, &body);
            assert_eq!(came_to(&answer).1, "accepted", "{name}: {}", answer.text());
            let identity = format!("{channel}:demo:{id}");
            let summary = until_summary(&server, &identity);
            assert_eq!(crate::bodies::amount(&summary["grand_total"]).to_string(), "10", "{name}");
            assert_eq!(line_name(&server, &identity), text, "{name}");
            // The mark belongs to the document, not to the order in it.
            let sent = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&body);
            let kept = server.view(&format!("/v1/orders/{channel}/demo/{id}?body=1"));
            assert_eq!(kept["body"], std::str::from_utf8(sent).unwrap(), "{name}: kept as sent");
        }
    }
    for channel in ["xml-api", "xml-hook"] {
        let answer = post(&server, channel, bom(xml(&[xml_order("25", "NEW", "10.00")])));
        assert_eq!(came_to(&answer).1, "accepted", "{}", answer.text());
        until_summary(&server, &format!("{channel}:demo:25"));
    }
}

/// The name of the first line of a summary.
fn line_name(server: &Forebay, identity: &str) -> String {
    let file = server.data_dir().join("oms.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let oms = rusqlite::Connection::open_with_flags(file, flags).unwrap();
    let sql = "SELECT name FROM order_item_summary JOIN order_summary ON order_summary.id = order_summary_id \
               WHERE external_reference_identifier = ?1 ORDER BY line_number LIMIT 1";
    oms.query_row(sql, [identity], |row| row.get(0)).unwrap()
}

fn gzip(plain: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Many members, each a mebibyte of blanks in a kilobyte: about 130 KB that unpack to 128 MiB.
fn gzip_bomb() -> Vec<u8> {
    gzip(&vec![b' '; 1 << 20], Compression::best()).repeat(128)
}

#[test]
fn pitfall_47_48_a_gzip_bomb_is_cut_while_it_unpacks() {
    let server = server("");
    let gzipped = [("Content-Type", JSON), ("Content-Encoding", "gzip")];
    let bomb = gzip_bomb();
    assert!(bomb.len() < 256 << 10, "{}", bomb.len());
    // Small on the wire and of an honest ratio, but more than the limit once unpacked.
    let honest = [
        gzip(&vec![b' '; 8 << 20], Compression::none()),
        gzip(&vec![b' '; 9 << 20], Compression::fast()),
    ]
    .concat();
    assert!(honest.len() < 16 << 20);
    // Within the limit it could be told by its ratio only.
    let thin = gzip(&vec![b' '; 1 << 20], Compression::best()).repeat(12);
    for channel in ["shop-api", "shop-hook"] {
        for (body, says) in [
            (&bomb, "unpacked body is larger"),
            (&honest, "unpacked body is larger"),
            (&thin, "times its size"),
        ] {
            let document = problem(&post_with(&server, channel, &gzipped, body), 413, "too-large");
            assert!(document["detail"].as_str().unwrap().contains(says), "{document}");
        }
    }
    let good = gzip(shopify(31, 1, "10.00").as_bytes(), Compression::fast());
    assert_eq!(came_to(&post_with(&server, "shop-api", &gzipped, &good)).0, 202);
    assert_eq!(came_to(&post_with(&server, "shop-hook", &gzipped, &good)).0, 200);
    let cut = &good[..good.len() - 4];
    problem(&post_with(&server, "shop-api", &gzipped, cut), 400, "unreadable");
    let kept = post_with(&server, "shop-hook", &gzipped, cut);
    assert_eq!(came_to(&kept), (200, "exception".to_owned()));
    for coding in ["br", "gzip, gzip", "zstd", "deflate"] {
        let headers = [("Content-Type", JSON), ("Content-Encoding", coding)];
        let answer = post_with(&server, "shop-api", &headers, &good);
        problem(&answer, 415, "unsupported-media-type");
        assert_eq!(answer.header("accept-encoding"), Some("gzip, identity"));
    }
    until_summary(&server, "shop-api:demo:31");
    until_summary(&server, "shop-hook:demo:31");
    is_well(&server);
}

/// Sends bytes on a connection of its own.
fn connection(server: &Forebay, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.orders).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A request for a channel that announces its whole body and brings half of it.
fn half(channel: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST /v1/channels/{channel}/orders HTTP/1.1\r\nHost: door\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        kind(channel),
        body.len()
    );
    [head.as_bytes(), &body.as_bytes()[..body.len() / 2]].concat()
}

#[test]
fn half_sent_bodies_keep_and_hold_nothing() {
    let server = server("");
    for channel in ["shop-api", "shop-hook", "xml-api", "xml-hook"] {
        let body = if channel.starts_with("xml") {
            xml(&[xml_order("41", "NEW", "10.00")])
        } else {
            shopify(41, 1, "10.00")
        };
        for _ in 0..8 {
            drop(connection(&server, &half(channel, &body)));
        }
        // One that ends its half of the connection can still be told.
        let mut stream = connection(&server, &half(channel, &body));
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    is_well(&server);
    server.until("budget given back", |server| {
        let door = &server.view("/v1/status")["door"];
        (door["in_flight_orders"] == 0 && door["in_flight_bytes"] == 0).then_some(())
    });
    for channel in ["shop-api", "shop-hook", "xml-api", "xml-hook"] {
        let answer = server.get(&format!("/v1/orders/{channel}/demo/41"));
        problem(&answer, 404, "not-found");
    }
    assert_eq!(server.view("/v1/exceptions")["exceptions"].as_array().map(Vec::len), Some(0));
}

#[test]
fn stalled_bodies_and_headers_are_cut_off_while_others_are_served() {
    let server = server("[door]\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\n");
    let mut stalled = Vec::new();
    for channel in ["shop-api", "shop-hook"] {
        stalled.push(connection(&server, &half(channel, &shopify(42, 1, "10.00"))));
    }
    let mut headers = connection(&server, b"POST /v1/channels/shop-api/orders HTTP/1.1\r\nHo");
    is_well(&server);
    for mut stream in stalled {
        // It reads to the end, so the connection was closed behind the answer.
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 "), "{answer}");
        let document: Value = serde_json::from_str(body).unwrap();
        assert_eq!(document["type"], "https://forebay.dev/problems/timeout", "{document}");
        assert!(document["detail"].as_str().is_some_and(|text| !text.is_empty()), "{document}");
    }
    let mut rest = Vec::new();
    headers.read_to_end(&mut rest).ok();
    problem(&server.get("/v1/orders/shop-api/demo/42"), 404, "not-found");
    is_well(&server);
}

#[test]
fn a_wrong_content_type_is_415_for_a_program_and_no_matter_for_a_webhook() {
    let server = server("");
    let order = shopify(51, 1, "10.00");
    for (id, kind) in [
        (51, "text/plain"),
        (52, "application/xml"),
        (53, "multipart/form-data; boundary=x"),
        (54, "application/json; charset=utf-16"),
        (55, "application/x-www-form-urlencoded"),
    ] {
        let body = order.replace("51", &id.to_string());
        let refused = post_with(&server, "shop-api", &[("Content-Type", kind)], &body);
        let document = problem(&refused, 415, "unsupported-media-type");
        assert!(document["detail"].as_str().unwrap().contains("application/json"), "{document}");
        let taken = post_with(&server, "shop-hook", &[("Content-Type", kind)], &body);
        assert_eq!(came_to(&taken), (200, "accepted".to_owned()), "{kind}: {}", taken.text());
    }
    let body = xml(&[xml_order("56", "NEW", "10.00")]);
    let refused = post_with(&server, "xml-api", &[("Content-Type", JSON)], &body);
    let document = problem(&refused, 415, "unsupported-media-type");
    assert!(document["detail"].as_str().unwrap().contains("xml"), "{document}");
    let taken = post_with(&server, "xml-hook", &[("Content-Type", JSON)], &body);
    assert_eq!(came_to(&taken), (200, "accepted".to_owned()));
    // XML where JSON is read, under the right name: unreadable as any other.
    check(&server, "shop", &Bad::new("XML", body, "syntax"));
    check(&server, "xml", &Bad::new("JSON", order, "syntax"));
    assert_eq!(came_to(&post_with(&server, "shop-api", &[], shopify(57, 1, "1.00"))).0, 202);
    is_well(&server);
}

#[test]
fn an_unknown_channel_or_path_is_named() {
    let server = server("");
    for body in [shopify(61, 1, "10.00"), String::new(), "x".repeat(100_000)] {
        let answer = server.post("nobody", JSON, body.as_bytes());
        let document = problem(&answer, 404, "unknown-channel");
        assert!(document["detail"].as_str().unwrap().contains("[channels]"), "{document}");
        assert_eq!(document["instance"], "/v1/channels/nobody/orders");
    }
    problem(&server.order(&Request::post("/v1/orders", b"{}")), 404, "not-found");
    problem(&server.order(&Request::get("/")), 404, "not-found");
    let wrong = server.order(&Request::get("/v1/channels/shop-api/orders"));
    problem(&wrong, 405, "bad-request");
    assert_eq!(wrong.header("allow"), Some("POST"));
    is_well(&server);
}

#[test]
fn bodies_of_ten_megabytes() {
    let server = server("[drain]\nceiling_per_s = 20000.0\n");
    let one = |bytes: usize| shopify(71, 1, "10.00").replace("Bowl", &"b".repeat(bytes));
    for channel in ["shop-api", "shop-hook"] {
        for bytes in [10 << 20, 20 << 20] {
            let document = problem(&post(&server, channel, one(bytes)), 413, "too-large");
            assert!(document["detail"].as_str().unwrap().contains("bytes"), "{document}");
        }
        problem(&server.get(&format!("/v1/orders/{channel}/demo/71")), 404, "not-found");
        is_well(&server);
    }
    // Ten megabytes of many orders are a batch like any other.
    let filler = "b".repeat(10_000);
    let lines: Vec<_> =
        (0..1_000).map(|n| shopify(7_000 + n, 1, "10.00").replace("Bowl", &filler)).collect();
    let body = lines.join("\n");
    assert!(body.len() > 10_000_000);
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = post_with(&server, "shop-api", &headers, &body);
    assert_eq!(answer.status, 202, "{}", &answer.text()[..200]);
    let document = answer.json();
    assert_eq!((&document["durable"], &document["refused"]), (&1_000.into(), &0.into()));
    server.until("every order of the batch", |server| {
        (server.view("/v1/status")["buffer"]["ended"]["summarised"] == 1_002).then_some(())
    });
}

#[test]
fn odd_ids_are_found_by_their_location() {
    let server = server("");
    let rows = [
        ("#1001", "#1001", "%231001"),
        ("a/b", "a/b", "a%2Fb"),
        ("a b?c", "a b?c", "a%20b%3Fc"),
        ("100%25", "100%25", "100%2525"),
        ("ünï-🛒", "ünï-🛒", "%C3%BCn%C3%AF-%F0%9F%9B%92"),
        ("<&>", "&lt;&amp;&gt;", "%3C&%3E"),
        ("a:b", "a:b", "a%3Ab"),
    ];
    for (id, escaped, encoded) in rows {
        let sent = [
            ("xml-api", xml(&[xml_order(escaped, "NEW", "10.00")])),
            ("xml-hook", xml(&[xml_order(escaped, "NEW", "10.00")])),
            ("own-api", own(id, "10.00")),
        ];
        for (channel, body) in sent {
            let answer = post(&server, channel, body);
            assert_eq!(came_to(&answer).1, "accepted", "{}", answer.text());
            assert_eq!(answer.json()["id"], id);
            let location = answer.header("location").unwrap();
            assert_eq!(location, format!("/v1/orders/{channel}/demo/{encoded}"));
            assert_eq!(server.get(location).json()["id"], id);
            let view = server.until_state(location, "summarised");
            assert_eq!(view["id"], id);
            until_summary(&server, &format!("{channel}:demo:{encoded}"));
        }
    }
    // A control character cannot be part of a key.
    let document = problem(&post(&server, "own-api", own(r"a\u0000b", "1.00")), 400, "unreadable");
    assert!(document["detail"].as_str().unwrap().contains("control character"), "{document}");
    let empty = post(&server, "own-api", own("", "1.00"));
    assert_eq!(empty.status, 400, "{}", empty.text());
    let long = post(&server, "own-api", own(&"x".repeat(300), "1.00"));
    assert_eq!(long.status, 400, "{}", long.text());
    is_well(&server);
}

/// A number of KiB the kernel knows of the server's memory.
fn memory(server: &Forebay, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_stays_flat_through_a_series_of_bombs() {
    /// KiB that may be held more after the series than before it.
    const KEPT_MAX: u64 = 64 << 10;
    /// KiB that may be held more at any moment of it: a body, its unpacked self, and what reads them.
    const PEAK_MAX: u64 = 128 << 10;
    let server = server("");
    let gzipped = [("Content-Type", JSON), ("Content-Encoding", "gzip")];
    let deep = "[".repeat(1_000_000);
    let deep_xml = xml(&["<a>".repeat(200_000)]);
    let mut laughs = String::from(r#"<!DOCTYPE orders [<!ENTITY a "aaaaaaaaaa">"#);
    (b'b'..=b'z').for_each(|n| {
        let name = char::from(n);
        let before = char::from(n - 1);
        laughs.push_str(&format!("<!ENTITY {name} \"&{before};&{before};&{before};&{before};\">"));
    });
    let laughs = format!("{laughs}]><orders><order order-no=\"&z;\"/></orders>");
    let names: String = (0..50_000).map(|n| format!(r#""{n}":0,"#)).collect();
    let names = format!("{{{names}\"id\":1}}");
    let numbers = shopify(81, 1, &"9".repeat(2_000_000));
    let small_items = "{}\n".repeat(10_001);
    let bomb = gzip_bomb();
    let large = vec![b' '; 10 << 20];
    is_well(&server);
    // From here on the kernel's mark of the peak is of the bombs only.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let before = memory(&server, "VmRSS:");
    for round in 0..2 {
        for channel in ["shop-api", "shop-hook"] {
            for body in [deep.as_bytes(), names.as_bytes(), numbers.as_bytes(), &large] {
                let answer = post(&server, channel, body);
                assert!(answer.status < 500, "{}", answer.text());
            }
            let ndjson = [("Content-Type", "application/x-ndjson")];
            let answer = post_with(&server, channel, &ndjson, &small_items);
            assert!(answer.status < 500, "{}", answer.text());
        }
        problem(&post_with(&server, "shop-api", &gzipped, &bomb), 413, "too-large");
        for channel in ["xml-api", "xml-hook"] {
            for body in [&deep_xml, &laughs] {
                let answer = post(&server, channel, body);
                assert!(answer.status < 500, "{}", answer.text());
            }
        }
        is_well(&server);
        let held = memory(&server, "VmRSS:").saturating_sub(before);
        assert!(held < KEPT_MAX, "{held} KiB more after round {round}");
    }
    let peak = memory(&server, "VmHWM:").saturating_sub(before);
    assert!(peak < PEAK_MAX, "{peak} KiB more at the peak");
}

#[test]
fn many_large_bodies_at_once_share_one_budget_of_memory() {
    /// KiB the process may grow by: three times the budget, where what is offered is ten times it.
    const PEAK_MAX: u64 = 96 << 10;
    const SENDERS: usize = 40;
    let server = server("[door]\nbody_bytes = \"8MiB\"\nin_flight_bytes = \"32MiB\"\n");
    let body = [b"[".as_slice(), &vec![b' '; (8 << 20) - 1]].concat();
    is_well(&server);
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let before = memory(&server, "VmRSS:");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let request = Request::post("/v1/channels/shop-api/orders", &body);
                    // A connection that is cut while the body is still being sent is a refusal too.
                    request
                        .header("Content-Type", JSON)
                        .send(server.orders)
                        .map_or(503, |a| a.status)
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 400 | 503)), "{statuses:?}");
    assert!(statuses.contains(&400), "some had room: {statuses:?}");
    let peak = memory(&server, "VmHWM:").saturating_sub(before);
    assert!(peak < PEAK_MAX, "{peak} KiB more at the peak");
    is_well(&server);
    let door = &server.view("/v1/status")["door"];
    assert_eq!((&door["in_flight_orders"], &door["in_flight_bytes"]), (&0.into(), &0.into()));
}
