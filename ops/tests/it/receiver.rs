//! A receiver that reacts as a test says, and passes on what it was sent.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::support::in_time;

/// What becomes of one request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// This status, and these headers.
    Answers(&'static str, &'static str),
    /// The line is cut; whether it was taken nobody says.
    Cut,
    /// Nothing, and the line stays.
    Silence,
    /// An answer after so long.
    Late(Duration),
    /// 200, and then a body without an end.
    Endless,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).expect(name).1
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// What it says of one order, in two words.
    pub(crate) fn words(&self) -> String {
        words(&self.json())
    }
}

/// One event in two words: `accepted 7`.
pub(crate) fn words(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap().strip_prefix("forebay.order.").unwrap();
    format!("{kind} {}", event["data"]["id"].as_str().unwrap())
}

/// A receiver of the test's own process.
pub(crate) struct Receiver {
    pub(crate) url: String,
    told: mpsc::Receiver<Told>,
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
}

impl Receiver {
    /// On loopback, in the clear. It takes what no reaction is for.
    pub(crate) async fn start(reactions: impl IntoIterator<Item = Reaction>) -> Self {
        Self::serve("http", None, reactions).await
    }

    /// Over TLS as `localhost`; the authority that vouches for it is written to `roots`.
    pub(crate) async fn start_tls(roots: &Path) -> Self {
        let authority = Authority::new("an authority of the tests").unwrap();
        std::fs::write(roots, authority.pem()).unwrap();
        let certified = authority.certify("receiver", &["localhost"]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::serve("https", Some(TlsAcceptor::from(Arc::new(config))), []).await
    }

    async fn serve(
        scheme: &str,
        tls: Option<TlsAcceptor>,
        reactions: impl IntoIterator<Item = Reaction>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://localhost:{}/hooks", listener.local_addr().unwrap().port());
        let (tell, told) = mpsc::channel(10_000);
        let reactions = Arc::new(Mutex::new(reactions.into_iter().collect::<VecDeque<_>>()));
        let next = Arc::clone(&reactions);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, next, tls) = (tell.clone(), Arc::clone(&next), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, tell, next).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => connection(stream, tell, next).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { url, told, reactions }
    }

    /// The next request, as it came.
    pub(crate) async fn next(&mut self) -> Told {
        in_time("a request", self.told.recv()).await.unwrap()
    }

    /// The next requests, each of one event, in two words.
    pub(crate) async fn words(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await.words());
        }
        all
    }

    /// Nothing came that was not asked for by now.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.told.try_recv().is_err()
    }

    pub(crate) fn reacts(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.reactions.lock().unwrap().extend(reactions);
    }
}

async fn connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    tell: mpsc::Sender<Told>,
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let told = request(&mut stream, &mut read).await?;
        let reaction = reactions.lock().unwrap().pop_front();
        tell.send(told).await.ok()?;
        let (status, headers) = match reaction {
            None => ("204 No Content", ""),
            Some(Reaction::Answers(status, headers)) => (status, headers),
            Some(Reaction::Cut) => return None,
            Some(Reaction::Silence) => std::future::pending().await,
            Some(Reaction::Late(wait)) => {
                tokio::time::sleep(wait).await;
                ("200 OK", "")
            }
            Some(Reaction::Endless) => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head).await.ok()?;
                loop {
                    stream.write_all(b"400\r\n").await.ok()?;
                    stream.write_all(&[b'x'; 0x400]).await.ok()?;
                    stream.write_all(b"\r\n").await.ok()?;
                    tokio::task::yield_now().await;
                }
            }
        };
        let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
        let answer = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// One request; what came after it stays in `read`.
async fn request(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<Told> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let told = Told { head, body: String::new(), at: Instant::now() };
            let length: usize = told.header("content-length").parse().unwrap();
            if read.len() >= end + 4 + length {
                let body = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
                read.drain(..end + 4 + length);
                return Some(Told { body, ..told });
            }
        }
        let mut more = [0; 4096];
        let n = stream.read(&mut more).await.ok()?;
        if n == 0 {
            return None;
        }
        read.extend_from_slice(&more[..n]);
    }
}
