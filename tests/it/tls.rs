//! The drain to an OMS over HTTP that serves TLS: whom it trusts, and how often it shakes hands.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_reference_oms::{Judgement, judge};
use tempfile::TempDir;

use crate::bodies::{JSON, own};
use crate::harness::Forebay;
use crate::oms::{Oms, directory};

#[path = "../../xtask/src/certificates.rs"]
mod certificates;

use certificates::Authority;

/// An OMS whose certificate an authority signed, with a counter of connections before it.
struct Guarded {
    files: TempDir,
    _oms: Oms,
    counter: Counter,
}

impl Guarded {
    fn start() -> Self {
        let files = directory("{}");
        let authority = Authority::new("the OMS's authority").unwrap();
        let certified = authority.certify("oms", &["127.0.0.1"]).unwrap();
        let stranger = Authority::new("a stranger").unwrap();
        for (name, pem) in [
            ("authority.pem", &authority.pem()),
            ("stranger.pem", &stranger.pem()),
            ("oms.pem", &certified.certificate),
            ("oms.key", &certified.key),
        ] {
            std::fs::write(files.path().join(name), pem).unwrap();
        }
        let arguments = ["--tls-cert", "oms.pem", "--tls-key", "oms.key"];
        let oms = Oms::start_with(&arguments, files.path());
        let counter = Counter::before(oms.address);
        Self { files, _oms: oms, counter }
    }

    /// Orders on their way to it, one a call; `roots` is whom the client trusts.
    fn selling(&self, roots: &Path) -> Forebay {
        let (url, at) = (format!("https://{}", self.counter.address), self.files.path().display());
        Forebay::start(&format!(
            "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
             [drain]\nceiling_per_s = 200.0\nin_flight = 2\nretry_base = \"20ms\"\nretry_max = \"500ms\"\n\
             [oms]\nkind = \"http\"\nurl = \"{url}\"\nroots = {roots:?}\ntest = true\nclaim = \"none\"\n\
             [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/oauth/token\"\n\
             client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
             [oms.create]\npath = \"/v1/orders\"\nrefuses_second = true\nanswers = {{ items = \"/results\" }}\n"
        ))
    }

    fn judged(&self) -> Judgement {
        judge(&self.files.path().join("oms.db")).unwrap()
    }
}

/// Passes connections on as they are, and counts them.
struct Counter {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Counter {
    fn before(oms: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        // It ends with the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(oms) else { continue };
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, to));
                std::thread::spawn(move || pass(server, from));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Until one of them ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

fn post(forebay: &Forebay, orders: u64) {
    for n in 0..orders {
        let answer = forebay.post("forebay", JSON, own(&n.to_string(), "10.00").as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

fn summarised(forebay: &Forebay, orders: u64) {
    forebay.until("all orders", |forebay| {
        (forebay.view("/v1/status")["buffer"]["ended"]["summarised"] == orders).then_some(())
    });
}

#[test]
fn a_sale_over_tls_is_once_and_on_few_connections() {
    let oms = Guarded::start();
    let mut forebay = oms.selling(&oms.files.path().join("authority.pem"));
    post(&forebay, 100);
    summarised(&forebay, 100);
    assert!(forebay.stop().success());
    let judged = oms.judged();
    assert_eq!((judged.creates, judged.doubles), (100, 0), "{judged:?}");
    assert!(judged.calls > 100 && judged.peak_calls_at_once <= 2, "{judged:?}");
    let connections = oms.counter.connections();
    assert!(connections <= 10, "{connections} connections for {} calls", judged.calls);
}

#[test]
fn an_oms_that_a_stranger_speaks_for_is_sent_nothing_and_the_log_says_why() {
    let oms = Guarded::start();
    let roots = oms.files.path().join("roots.pem");
    std::fs::copy(oms.files.path().join("stranger.pem"), &roots).unwrap();
    let mut forebay = oms.selling(&roots);
    post(&forebay, 3);
    forebay.until("the reason", |forebay| forebay.log().contains("UnknownIssuer").then_some(()));
    let status = forebay.view("/v1/status");
    assert_eq!(
        status["buffer"]["live"]["pending"].as_u64().map(|pending| pending <= 3),
        Some(true)
    );
    assert!(oms.counter.connections() > 0);
    assert_eq!(oms.judged().calls, 0, "neither orders nor credentials left");
    assert_eq!(forebay.view("/v1/exceptions")["exceptions"].as_array().map(Vec::len), Some(0));

    // Whoever is trusted is read at the start.
    assert!(forebay.stop().success());
    std::fs::copy(oms.files.path().join("authority.pem"), &roots).unwrap();
    forebay.start_again();
    summarised(&forebay, 3);
    assert_eq!(oms.judged().creates, 3);
}
