//! Connections: deadlines, the cap, keep-alive, a graceful stop.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::orders::{xml, xml_order};
use crate::support::{Client, PATIENCE, TestDoor, request, until};

const PATH: &str = "/v1/channels/b2c-commerce-xml/orders";

fn order(number: &str) -> Vec<u8> {
    request("POST", PATH, &[], xml(&[xml_order(number, "NEW", "10.00")]).as_bytes())
}

fn short(config: &mut forebay_ingest::DoorConfig) {
    config.header_timeout = Duration::from_millis(150);
    config.body_timeout = Duration::from_millis(150);
    config.idle_timeout = Duration::from_millis(300);
    config.answer_timeout = Duration::from_millis(300);
}

#[tokio::test]
async fn a_silent_connection_and_half_a_header_are_closed_by_the_deadline() {
    let door = TestDoor::with(short);
    let begun = Instant::now();
    let mut silent = door.connect().await;
    let mut half = door.connect().await;
    half.write(b"POST /v1/chan").await;
    silent.closed().await;
    half.closed().await;
    assert!(begun.elapsed() >= Duration::from_millis(140), "not before the deadline");
    door.shut().await;
}

#[tokio::test]
async fn a_header_that_trickles_is_closed_by_the_deadline() {
    let door = TestDoor::with(short);
    let mut slow = door.connect().await;
    let trickle = async {
        for byte in std::iter::repeat_n(b"POST / HTTP/1.1\r\nx: y", 200).flatten() {
            if slow.stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never closed");
    };
    timeout(PATIENCE, trickle).await.unwrap();
    door.shut().await;
}

#[tokio::test]
async fn a_body_that_stalls_gets_408_and_the_connection_ends() {
    let door = TestDoor::with(short);
    let mut stalled = door.connect().await;
    let whole = order("stalled");
    stalled.write(&whole[..whole.len() - 20]).await;
    stalled.reply().await.problem(408, "timeout");
    stalled.closed().await;
    let unchunked = door.connect();
    let mut silent = unchunked.await;
    silent
        .write(
            format!("POST {PATH} HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n")
                .as_bytes(),
        )
        .await;
    silent.reply().await.problem(408, "timeout");
    door.shut().await;
}

#[tokio::test]
async fn a_long_body_has_the_time_its_size_earns() {
    let door = TestDoor::with(|config| {
        config.body_timeout = Duration::from_secs(1);
        config.body_rate_min = 200;
    });
    let mut slow = door.connect().await;
    let whole = order("slow-but-steady");
    let body_at = whole.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    slow.write(&whole[..body_at]).await;
    let begun = Instant::now();
    // Some 400 bytes a second: longer than the time for a body, faster than the slowest allowed.
    for chunk in whole[body_at..].chunks(20) {
        slow.write(chunk).await;
        tokio::time::sleep(Duration::from_millis(45)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(1));
    assert_eq!(slow.reply().await.status, 202);
    door.shut().await;
}

#[tokio::test]
async fn an_idle_connection_is_let_go_by_its_own_deadline() {
    let door = TestDoor::with(short);
    let mut client = door.connect().await;
    client.write(&order("1")).await;
    assert_eq!(client.reply().await.status, 202);
    let begun = Instant::now();
    client.closed().await;
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    door.shut().await;
}

#[tokio::test]
async fn the_first_byte_of_a_next_request_starts_the_header_deadline() {
    let door = TestDoor::with(|config| {
        config.header_timeout = Duration::from_millis(150);
        config.idle_timeout = PATIENCE * 10;
    });
    let mut client = door.connect().await;
    client.write(&order("2")).await;
    assert_eq!(client.reply().await.status, 202);
    client.write(b"P").await;
    // Waits for less than the idle deadline, so only the header's can have closed it.
    client.closed().await;
    door.shut().await;
}

#[tokio::test]
async fn requests_share_a_connection_and_may_be_pipelined() {
    let door = TestDoor::open();
    let mut client = door.connect().await;
    let mut three = order("p1");
    three.extend(order("p2"));
    three.extend(order("p3"));
    client.write(&three).await;
    for id in ["p1", "p2", "p3"] {
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.word("id")), (202, id));
    }
    client.write(&order("p4")).await;
    assert_eq!(client.reply().await.word("id"), "p4");
    door.shut().await;
}

#[tokio::test]
async fn a_sender_that_shuts_its_half_still_gets_the_answer() {
    let door = TestDoor::open();
    let mut client = door.connect().await;
    client.write(&order("half")).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.reply().await.status, 202);
    client.closed().await;
    door.shut().await;
}

#[tokio::test]
async fn a_sender_that_hangs_up_loses_the_answer_and_not_the_order() {
    let door = TestDoor::open();
    door.buffer.close_gate();
    let mut client = door.connect().await;
    client.write(&order("gone")).await;
    door.buffer.until_waiting(1).await;
    drop(client);
    door.buffer.open_gate();
    let admission = forebay_buffer::Buffer::admission(&door.buffer).clone();
    until("the permit is given back", || admission.in_flight() == (0, 0)).await;
    let reply = door.get("/v1/orders/b2c-commerce-xml/demo/gone").await;
    assert_eq!((reply.status, reply.word("state")), (200, "pending"));
    door.shut().await;
}

#[tokio::test]
async fn a_connection_over_the_cap_is_told_so_and_closed() {
    let door = TestDoor::with(|config| config.connections_max = 2);
    let mut first = door.connect().await;
    first.write(&order("c1")).await;
    assert_eq!(first.reply().await.status, 202);
    let mut second = door.connect().await;
    second.write(&order("c2")).await;
    assert_eq!(second.reply().await.status, 202);
    let mut third = door.connect().await;
    third.write(&order("c3")).await;
    let refusal = third.reply().await;
    refusal.problem(503, "overloaded");
    assert_eq!(refusal.header("connection"), "close");
    third.closed().await;
    first.write(&order("c4")).await;
    assert_eq!(first.reply().await.status, 202, "those inside are served on");
    drop((first, second));
    until_let_in(&door, "c3").await;
    door.tell_to_stop();
    door.stopped().await.unwrap();
}

/// Knocks until there is a place.
async fn until_let_in(door: &TestDoor, number: &str) {
    let let_in = async {
        loop {
            let mut client = door.connect().await;
            client.write(&order(number)).await;
            if client.reply().await.status == 202 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, let_in).await.expect("a place is free again");
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_closes_the_rest() {
    let door = TestDoor::open();
    let mut idle = door.connect().await;
    idle.write(&order("before")).await;
    assert_eq!(idle.reply().await.status, 202);
    door.buffer.close_gate();
    let mut busy = door.connect().await;
    busy.write(&order("during")).await;
    door.buffer.until_waiting(1).await;
    door.tell_to_stop();
    idle.closed().await;
    let address = door.address;
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("nothing new is accepted");
    door.buffer.open_gate();
    let reply = busy.reply().await;
    assert_eq!((reply.status, reply.word("outcome")), (202, "accepted"));
    busy.closed().await;
    door.stopped().await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_the_grace_time() {
    let door = TestDoor::graceful(Duration::from_millis(100));
    door.buffer.close_gate();
    let mut busy = door.connect().await;
    busy.write(&order("never")).await;
    door.buffer.until_waiting(1).await;
    door.tell_to_stop();
    busy.closed().await;
    door.stopped().await.unwrap();
}

#[tokio::test]
async fn a_sender_that_does_not_read_its_answer_is_cut_off() {
    let door = TestDoor::with(|config| {
        short(config);
        config.connections_max = 1;
    });
    let orders: Vec<_> =
        (0..9_000).map(|n| xml_order(&format!("big-{n}"), "FAILED", "1.00")).collect();
    let mut client = Client::narrow(door.address).await;
    client.write(&request("POST", PATH, &[], xml(&orders).as_bytes())).await;
    // The answer has some 5 MB, more than the socket buffers hold, and nobody reads it: what is not sent
    // still counts against the budget, until the connection is cut.
    let admission = forebay_buffer::Buffer::admission(&door.buffer).clone();
    until("the answer waits", || admission.in_flight().1 > 5 << 20).await;
    until("what it held is given back", || admission.in_flight() == (0, 0)).await;
    until_let_in(&door, "after").await;
    assert!(client.ends_within_an_answer().await);
    door.tell_to_stop();
    door.stopped().await.unwrap();
}

#[tokio::test]
async fn two_lengths_are_not_two_requests() {
    let door = TestDoor::open();
    let body = xml(&[xml_order("smuggler", "NEW", "10.00")]);
    let hidden = String::from_utf8(order("smuggled")).unwrap();
    for headers in [
        format!("content-length: {}\r\ntransfer-encoding: chunked", hidden.len() + 5),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", hidden.len() + 5),
    ] {
        let mut client = door.connect().await;
        let head = format!("POST {PATH} HTTP/1.1\r\nhost: d\r\n{headers}\r\n\r\n");
        let chunked = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n{hidden}", body.len());
        client.write(chunked.as_bytes()).await;
        if let Some(reply) = client.try_reply().await {
            assert!(matches!(reply.status, 200 | 202 | 400), "{reply:?}");
            client.closed().await;
        }
    }
    let differing = format!(
        "POST {PATH} HTTP/1.1\r\nhost: d\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"
    );
    let other = format!(
        "POST {PATH} HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"
    );
    for bad in [differing, other] {
        let mut client = door.connect().await;
        client.write(bad.as_bytes()).await;
        if let Some(reply) = client.try_reply().await {
            assert_eq!(reply.status, 400);
        }
    }
    let reply = door.get("/v1/orders/b2c-commerce-xml/demo/smuggled").await;
    reply.problem(404, "not-found");
    door.shut().await;
}

#[tokio::test]
async fn very_long_headers_are_refused() {
    let door = TestDoor::open();
    let mut client = door.connect().await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200 << 10));
    // The door may close before everything is written.
    let _sent = client.stream.write_all(long.as_bytes()).await.is_ok();
    if let Some(status) = client.status_line().await {
        assert_eq!(status, 431);
    }
    door.shut().await;
}

#[tokio::test]
async fn several_threads_serve_one_address() {
    let door = TestDoor::with(|config| config.threads = 3);
    for n in 0..30 {
        let reply =
            door.post("b2c-commerce-xml", xml(&[xml_order(&format!("t{n}"), "NEW", "1.00")]));
        assert_eq!(reply.await.status, 202);
    }
    door.shut().await;
}
