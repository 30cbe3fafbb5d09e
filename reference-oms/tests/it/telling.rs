//! Outcomes that the OMS tells by itself.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Oms, until};

const ORDERS: usize = 1_000;
const SENDERS: usize = 4;

/// A receiver that hears two of three; how often it heard of each.
fn receiver() -> (String, Arc<Mutex<BTreeMap<String, usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/oms/outcomes", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(BTreeMap::new()));
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let told = read(&stream);
            let status = if n % 3 == 2 { "500 No" } else { "200 OK" };
            if status == "200 OK" {
                let mut heard = hears.lock().unwrap();
                for one in told {
                    let identity = one["identity"].as_str().unwrap().to_owned();
                    *heard.entry(identity).or_insert(0) += 1;
                }
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, heard)
}

/// The outcomes of a request.
fn read(stream: &TcpStream) -> Vec<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(told) = line.to_lowercase().strip_prefix("content-length: ") {
            length = told.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn each_outcome_is_heard_once_while_orders_come_and_some_tellings_fail() {
    let (url, heard) = receiver();
    // What is refused is so at once, what is created a moment later: so outcomes do not come in the order of the orders.
    let oms = Oms::start(&json!({ "tell": url, "async_after_ms": 1, "async_refuse_every": 2 }));
    let token = oms.token();
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (oms, token) = (&oms, &token);
            scope.spawn(move || {
                for n in (sender..ORDERS).step_by(SENDERS) {
                    oms.create_one(token, &n.to_string());
                }
            });
        }
    });
    until("all to be heard", || heard.lock().unwrap().len() == ORDERS);
    let again: Vec<_> = heard.lock().unwrap().clone().into_iter().filter(|(_, n)| *n > 1).collect();
    assert_eq!(again, [], "told again though they were heard");
}
