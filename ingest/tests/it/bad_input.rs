//! Bad and hostile bodies: the right answer for the caller, memory flat, the next order served.

use forebay_buffer::Buffer;

use crate::orders::{shopify, xml, xml_order};
use crate::support::{PATIENCE, TestDoor, gzip, request};

/// Posts to both callers: 400 with a place for the program; 200, with the bytes kept, for the webhook.
async fn unreadable(door: &TestDoor, format: &str, body: &[u8]) {
    let (api, hook) = match format {
        "shopify" => ("shopify-api", "shopify"),
        _ => ("b2c-commerce-xml", "b2c-commerce-xml-hook"),
    };
    let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
    let problem = door.post(api, body).await.problem(400, "unreadable");
    let error = &problem["errors"][0];
    assert!(error["line"].as_u64().is_some_and(|line| line > 0), "{shown}: {problem}");
    assert!(error["column"].as_u64().is_some_and(|column| column > 0), "{shown}: {problem}");
    assert!(error["detail"].as_str().is_some_and(|text| !text.is_empty()));
    let kept = door.post(hook, body).await;
    assert_eq!((kept.status, kept.word("state")), (200, "exception"), "{shown}");
    let sequence = kept.json()["sequence"].as_u64().unwrap();
    let bytes = door.buffer.body(sequence).await.unwrap().unwrap();
    assert_eq!(&bytes[..], body, "{shown}: kept as it came");
    door.is_well().await;
}

#[tokio::test]
async fn json_that_cannot_be_read() {
    let door = TestDoor::open();
    let lone = shopify(1, 1, "1.00").replace("Jar", r"\ud83d");
    let twice = shopify(1, 1, "1.00").replace(r#""id":1,"#, r#""id":1,"id":2,"#);
    let comma = shopify(1, 1, "1,000.00");
    let cut = &shopify(1, 1, "1.00")[..90];
    let mut invalid = shopify(1, 1, "1.00").into_bytes();
    let at = invalid.windows(3).position(|w| w == b"Jar").unwrap();
    invalid[at] = 0xFF;
    let cases: [&[u8]; 9] = [
        b"{",
        b"",
        b"nothing",
        b"{\"id\":1,}",
        lone.as_bytes(),
        twice.as_bytes(),
        comma.as_bytes(),
        cut.as_bytes(),
        &invalid,
    ];
    for body in cases {
        unreadable(&door, "shopify", body).await;
    }
    door.shut().await;
}

#[tokio::test]
async fn odd_json_that_is_an_order_all_the_same() {
    let door = TestDoor::open();
    let bom = [b"\xEF\xBB\xBF".as_slice(), shopify(2, 1, "1.00").as_bytes()].concat();
    assert_eq!(door.post("shopify-api", bom).await.status, 202);
    let nul = shopify(3, 1, "1.00").replace("Jar", r"a\u0000b \\u0000");
    assert_eq!(door.post("shopify-api", nul).await.status, 202);
    let emoji = shopify(4, 1, "1.00").replace("Jar", "🛒 \\ud83d\\ude00");
    assert_eq!(door.post("shopify-api", emoji).await.status, 202);
    door.shut().await;
}

#[tokio::test]
async fn xml_that_cannot_be_read() {
    let door = TestDoor::open();
    let good = xml(&[xml_order("1", "NEW", "1.00")]);
    let entity = good.replace(
        "<orders",
        "<!DOCTYPE orders [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]><orders",
    );
    let external =
        good.replace("<orders", "<!DOCTYPE orders SYSTEM \"http://127.0.0.1:1/x.dtd\"><orders");
    let unknown = good.replace("Jar", "&jar;");
    let cut = &good[..good.len() - 30];
    let crossed = good.replace("</currency>", "</status>");
    for body in [entity.as_str(), &external, &unknown, cut, &crossed, "", "<", "no xml"] {
        unreadable(&door, "xml", body.as_bytes()).await;
    }
    let mut invalid = good.into_bytes();
    let at = invalid.windows(3).position(|w| w == b"Jar").unwrap();
    invalid[at] = 0xFF;
    unreadable(&door, "xml", &invalid).await;
    door.shut().await;
}

#[tokio::test]
async fn depth_bombs() {
    let door = TestDoor::open();
    for depth in [65, 1_000, 100_000, 1_000_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let bomb = shopify(5, 1, "1.00").replace("\"Jar\"", &nested);
        unreadable(&door, "shopify", bomb.as_bytes()).await;
    }
    for depth in [65, 1_000, 100_000] {
        let nested = format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        let bomb = xml(&[xml_order("1", "NEW", "1.00")])
            .replace("<currency>", &format!("{nested}<currency>"));
        unreadable(&door, "xml", bomb.as_bytes()).await;
    }
    door.shut().await;
}

#[tokio::test]
async fn gzip_bombs_and_damaged_gzip() {
    let door = TestDoor::open();
    let headers = [("content-encoding", "gzip")];
    let bomb = gzip(&vec![b' '; 64 << 20]);
    for channel in ["shopify-api", "shopify"] {
        door.post_with(channel, &headers, &bomb).await.problem(413, "too-large");
        door.is_well().await;
    }
    let good = gzip(shopify(6, 1, "1.00").as_bytes());
    assert_eq!(door.post_with("shopify-api", &headers, &good).await.status, 202);
    assert_eq!(door.post_with("shopify", &headers, &good).await.status, 200);
    let cut = &good[..good.len() - 4];
    door.post_with("shopify-api", &headers, cut).await.problem(400, "unreadable");
    let kept = door.post_with("shopify", &headers, cut).await;
    assert_eq!((kept.status, kept.word("outcome")), (200, "exception"));
    let sequence = kept.json()["sequence"].as_u64().unwrap();
    assert_eq!(&door.buffer.body(sequence).await.unwrap().unwrap()[..], cut);
    door.shut().await;
}

#[tokio::test]
async fn codings_and_types_that_are_not_read() {
    let door = TestDoor::open();
    let order = shopify(7, 1, "1.00");
    for coding in ["br", "gzip, gzip", "zstd", "deflate"] {
        let reply = door.post_with("shopify-api", &[("content-encoding", coding)], &order).await;
        reply.problem(415, "unsupported-media-type");
        assert_eq!(reply.header("accept-encoding"), "gzip, identity");
    }
    for kind in
        ["text/plain", "application/xml", "multipart/form-data", "application/json; charset=latin1"]
    {
        let reply = door.post_with("shopify-api", &[("content-type", kind)], &order).await;
        reply.problem(415, "unsupported-media-type");
    }
    let json = [("content-type", "application/json")];
    let body = xml(&[xml_order("1", "NEW", "1.00")]);
    door.post_with("b2c-commerce-xml", &json, &body).await.problem(415, "unsupported-media-type");
    // A webhook's sender would send nothing else: what can be read is read, what cannot is kept.
    let plain = [("content-type", "text/plain")];
    assert_eq!(door.post_with("shopify", &plain, &order).await.word("outcome"), "accepted");
    let packed = door.post_with("shopify", &[("content-encoding", "br")], "\u{1}\u{2}").await;
    assert_eq!((packed.status, packed.word("outcome")), (200, "exception"));
    door.shut().await;
}

#[tokio::test]
async fn large_bodies() {
    let door = TestDoor::open();
    let filler = |bytes: usize| shopify(8, 1, "1.00").replace("Jar", &"j".repeat(bytes));
    for channel in ["shopify-api", "shopify"] {
        door.post(channel, filler(10 << 20)).await.problem(413, "too-large");
        door.is_well().await;
        door.post(channel, filler(20 << 20)).await.problem(413, "too-large");
        door.is_well().await;
        let large = door.post(channel, filler(2 << 20)).await;
        assert!(large.status < 300, "{}", large.status);
    }
    let lines =
        format!("{},", r#"{"id":1,"title":"Jar","quantity":1,"price":"0.00"}"#).repeat(2_001);
    let many =
        shopify(9, 1, "1.00").replace("\"line_items\":[", &format!("\"line_items\":[{lines}"));
    door.post("shopify-api", &many).await.problem(413, "too-large");
    assert_eq!(
        door.post("shopify", &many).await.word("outcome"),
        "exception",
        "small enough to keep"
    );
    door.shut().await;
}

#[tokio::test]
async fn a_large_body_in_chunks_is_cut_where_the_limit_is() {
    let door = TestDoor::with(|config| config.body_bytes = 64 << 10);
    let mut client = door.connect().await;
    client
        .write(b"POST /v1/channels/shopify-api/orders HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    for _ in 0..6 {
        client.write(&chunk).await;
    }
    client.write(b"0\r\n\r\n").await;
    client.reply().await.problem(413, "too-large");
    door.is_well().await;
    let mut client = door.connect().await;
    client
        .write(b"POST /v1/channels/shopify-api/orders HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await;
    if let Some(reply) = client.try_reply().await {
        reply.problem(400, "bad-request");
    }
    door.shut().await;
}

#[tokio::test]
async fn a_sender_that_asks_first_is_refused_before_it_sends() {
    let door = TestDoor::open();
    let mut client = door.connect().await;
    let head =
        "POST /v1/channels/shopify-api/orders HTTP/1.1\r\nhost: d\r\nexpect: 100-continue\r\n";
    client.write(format!("{head}content-length: 100000000\r\n\r\n").as_bytes()).await;
    client.reply().await.problem(413, "too-large");
    client.closed().await;
    let mut client = door.connect().await;
    let body = shopify(10, 1, "1.00");
    client.write(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).await;
    assert_eq!(client.reply().await.status, 100);
    client.write(body.as_bytes()).await;
    assert_eq!(client.reply().await.status, 202);
    door.shut().await;
}

#[tokio::test]
async fn half_sent_bodies_hold_nothing() {
    let door = TestDoor::open();
    for _ in 0..20 {
        let mut client = door.connect().await;
        let whole =
            request("POST", "/v1/channels/shopify/orders", &[], shopify(11, 1, "1.00").as_bytes());
        client.write(&whole[..whole.len() / 2]).await;
        drop(client);
    }
    door.get("/v1/orders/shopify/demo/11").await.problem(404, "not-found");
    door.shut().await;
}

#[tokio::test]
async fn announcing_much_and_sending_nothing_holds_next_to_nothing() {
    let door = TestDoor::budgeted(100, 4 << 20, |_| ());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = door.connect().await;
        client
            .write(b"POST /v1/channels/shopify/orders HTTP/1.1\r\nhost: d\r\ncontent-length: 16000000\r\n\r\n{")
            .await;
        clients.push(client);
    }
    let admission = door.buffer.admission().clone();
    crate::support::until("all are being read", || admission.in_flight().0 == 20).await;
    let reply = tokio::time::timeout(PATIENCE, door.post("shopify", shopify(12, 1, "1.00"))).await;
    assert_eq!(reply.unwrap().status, 200, "others are served meanwhile");
    drop(clients);
    door.shut().await;
}

#[tokio::test]
async fn noise_instead_of_http() {
    let door = TestDoor::open();
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\r\n\r\n\r\n\r\nhello\r\n\r\n",
        b"GET\r\n\r\n",
        &[0; 4096],
    ] {
        let mut client = door.connect().await;
        client.write(noise).await;
        if let Some(status) = client.status_line().await {
            assert_eq!(status, 400);
        }
    }
    door.shut().await;
}

#[tokio::test]
async fn card_data_is_masked_before_anything_is_kept() {
    let door = TestDoor::open();
    let leak =
        shopify(13, 1, "1.00").replace(r#""name""#, r#""note":"card 4111 1111 1111 1111","name""#);
    for channel in ["shopify", "shopify-api"] {
        let reply = door.post(channel, &leak).await;
        assert_eq!(reply.word("outcome"), "accepted");
        let kept = door.buffer.body(reply.json()["sequence"].as_u64().unwrap()).await.unwrap();
        let kept = String::from_utf8(kept.unwrap().to_vec()).unwrap();
        assert_eq!(kept, leak.replace("4111 1111 1111 1111", "**** **** **** ****"));
    }
    // Unreadable bytes are masked as well as bytes nobody can read can be.
    let cut = &leak[..leak.len() - 1];
    let reply = door.post("shopify", cut).await;
    assert_eq!(reply.word("outcome"), "exception");
    let kept = door.buffer.body(reply.json()["sequence"].as_u64().unwrap()).await.unwrap();
    let kept = String::from_utf8(kept.unwrap().to_vec()).unwrap();
    assert!(kept.contains("**** **** **** ****") && !kept.contains("4111"), "{kept}");
    door.shut().await;
}

#[tokio::test]
async fn long_names_in_a_body_do_not_make_long_answers() {
    let door = TestDoor::open();
    let name = "n".repeat(1 << 20);
    let body = format!(r#"{{"id":1,"{name}":{{"a":1,}}}}"#);
    let reply = door.post("shopify-api", &body).await;
    reply.problem(400, "unreadable");
    assert!(reply.body.len() < 4096, "{}", reply.body.len());
    assert_eq!(door.post("shopify", &body).await.word("outcome"), "exception");
    let rows = door.buffer.exceptions(0, 10).await.unwrap();
    assert!(rows[0].reason.len() <= 512);
    door.shut().await;
}

#[tokio::test]
async fn a_small_body_of_very_many_items_needs_room_for_its_answer() {
    let door = TestDoor::budgeted(100, 1 << 20, |_| ());
    let ndjson = [("content-type", "application/x-ndjson")];
    let body = "{}\n".repeat(9_000);
    door.post_with("shopify-api", &ndjson, &body).await.problem(503, "overloaded");
    door.shut().await;
}

#[tokio::test]
async fn a_page_in_a_browser_posts_nothing_and_looks_at_nothing() {
    let door = TestDoor::open();
    let order = shopify(70, 1, "1.00");
    let plain = [("content-type", "text/plain"), ("origin", "https://example.com")];
    let sandboxed = [("content-type", "text/plain"), ("origin", "null")];
    for channel in ["shopify", "shopify-api", "unknown"] {
        for headers in [plain, sandboxed] {
            door.post_with(channel, &headers, &order).await.problem(403, "cross-origin");
        }
    }
    let path = "/v1/orders/shopify/demo/70";
    for (method, path) in [
        ("GET", path),
        ("OPTIONS", "/v1/channels/shopify/orders"),
        ("POST", "/services/data/v67.0/commerce/order-summaries"),
    ] {
        door.send(method, path, &plain, b"").await.problem(403, "cross-origin");
    }
    door.get(path).await.problem(404, "not-found");
    assert_eq!(door.post_with("shopify", &plain[..1], &order).await.word("outcome"), "accepted");
    door.shut().await;
}

#[tokio::test]
async fn what_is_kept_beside_a_body_stays_small() {
    let door = TestDoor::open();
    let long = format!("#{}", "é".repeat(1 << 20));
    let order = shopify(71, 1, "1.00").replacen("{", &format!(r#"{{"name":"{long}","#), 1);
    let order = order.replacen(r##""name":"#71","##, "", 1);
    let reply = door.post("shopify", &order).await;
    assert_eq!((reply.word("outcome"), reply.word("number").len()), ("accepted", 255));
    let cards = "4111 1111 1111 1111.".repeat(5_000);
    let order = shopify(72, 1, "1.00").replacen("{", &format!(r#"{{"note":"{cards}","#), 1);
    for channel in ["shopify", "shopify-api"] {
        door.post(channel, &order).await.problem(413, "too-large");
    }
    door.shut().await;
}
