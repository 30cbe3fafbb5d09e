//! The same over TLS, to a client that checks the certificate.

use std::sync::Arc;

use forebay_reference_oms::TlsFiles;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::support::{Oms, Request, SECRET};

#[tokio::test]
async fn calls_come_over_tls_and_are_cut_there_too() {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files =
        TlsFiles { cert: directory.path().join("cert.pem"), key: directory.path().join("key.pem") };
    std::fs::write(&files.cert, pair.cert.pem()).unwrap();
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    let oms = Oms::start_tls(&directory.path().join("oms.db"), files);
    let trusting = connector(Some(pair.cert.der().clone()));

    let answer = ask(&oms, &trusting, &Request::token(SECRET)).await.unwrap();
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let change = Request::post("/control", r#"{"drop_after_commit_every": 1}"#);
    ask(&oms, &trusting, &change).await.unwrap();
    let body = crate::support::batch(&["a"]);
    assert!(ask(&oms, &trusting, &Request::create(&token, &body)).await.is_none());
    let found = Request::get("/v1/orders?identity=a").bearer(&token);
    let found = ask(&oms, &trusting, &found).await.unwrap();
    assert_eq!(found["items"][0]["id"], json!("SO-0000000001"));

    // Who does not know the certificate gets nothing.
    assert!(ask(&oms, &connector(None), &Request::token(SECRET)).await.is_none());
}

fn connector(trusted: Option<CertificateDer<'static>>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    trusted.into_iter().for_each(|certificate| roots.add(certificate).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// The body of the answer, or none if none came whole.
async fn ask(oms: &Oms, connector: &TlsConnector, request: &Request<'_>) -> Option<Value> {
    let stream = tokio::net::TcpStream::connect(oms.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.ok()?;
    let sent = format!("{}{}", request.head(), request.body());
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}
