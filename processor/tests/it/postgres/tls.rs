//! TLS to PostgreSQL: whom the target trusts, and what it says of whom it does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_processor::oms::postgres::{Inspection, Postgres, PostgresOptions};
use forebay_processor::{CallFailure, OrderManagement, Outcome};

use super::server::{self, Authority, PostgresServer, database};
use crate::support::{clock, creates, order};

/// A server that takes connections with TLS alone.
const ONLY_TLS: &str = "hostssl all all 127.0.0.1/32 trust\n";

fn at(url: &str, roots: Option<&Path>) -> PostgresOptions {
    PostgresOptions {
        url: url.to_owned(),
        password: None,
        roots: roots.map(Path::to_owned),
        test: true,
        connections: 2,
        answer_timeout: Duration::from_secs(30),
    }
}

fn open(options: &PostgresOptions) -> Postgres {
    Postgres::open(options, clock()).unwrap()
}

/// Runs it again with a certificate of these names.
fn certify(server: &PostgresServer, authority: &Authority, names: &[&str]) {
    let certified = authority.certify("postgres", names).unwrap();
    server.put("server.crt", &certified.certificate).unwrap();
    server.put("server.key", &certified.key).unwrap();
    server.stop().unwrap();
    server.run(&["ssl=on"]).unwrap();
}

/// The certificate of an authority, in a file.
fn roots(place: &Path, name: &str, authority: &Authority) -> PathBuf {
    let path = place.join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

/// The failure of both calls: nobody's fault, and the same for both.
async fn not_sent(options: &PostgresOptions) -> String {
    let oms = open(options);
    let failure = oms.submit(&[order("refused")]).await.unwrap_err();
    let CallFailure::NotSent(why) = &failure else { panic!("{failure:?}") };
    let asked = oms.find(&["x".to_owned()]).await.unwrap_err();
    assert_eq!(asked, failure);
    assert_eq!(Inspection::of(options).await.unwrap_err(), failure.to_string());
    why.clone()
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_its_name_and_by_nothing_else() {
    let Some(server) = server::own() else { return };
    let url = database(&server, "tls").await;
    let place = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours").unwrap();
    let stranger = Authority::new("another").unwrap();
    let trusted = roots(place.path(), "ca.pem", &authority);
    let other = roots(place.path(), "other.pem", &stranger);
    let require = format!("{url}?sslmode=require");

    let why = not_sent(&at(&require, Some(&trusted))).await;
    assert!(why.contains("server does not support TLS"), "{why}");

    server.put("pg_hba.conf", ONLY_TLS).unwrap();
    certify(&server, &authority, &["127.0.0.1"]);
    let oms = open(&at(&require, Some(&trusted)));
    let created = oms.submit(&[order("1")]).await.unwrap();
    let [Outcome::Created { id }] = created.as_slice() else { panic!("{created:?}") };
    let found = oms.find(&[order("1").key.identity()]).await.unwrap();
    assert_eq!(&found[0].as_ref().unwrap().id, id);
    // Without being asked for it.
    let oms = open(&at(&url, Some(&trusted)));
    assert!(matches!(oms.submit(&[order("2")]).await.unwrap()[0], Outcome::Created { .. }));

    let why = not_sent(&at(&format!("{url}?sslmode=disable"), Some(&trusted))).await;
    assert!(why.contains("pg_hba.conf") && why.contains("no encryption"), "{why}");

    for mode in ["require", "prefer"] {
        for roots in [Some(other.as_path()), None] {
            let why = not_sent(&at(&format!("{url}?sslmode={mode}"), roots)).await;
            assert!(why.contains("certificate") && why.contains("UnknownIssuer"), "{why}");
        }
    }

    certify(&server, &authority, &["db.example.com"]);
    let why = not_sent(&at(&require, Some(&trusted))).await;
    assert!(why.contains("certificate") && why.contains("db.example.com"), "{why}");

    // Nobody was let in, and nothing is in the way of the next.
    certify(&server, &authority, &["127.0.0.1"]);
    assert_eq!(creates(&open(&at(&require, Some(&trusted)))).await.len(), 2);
}
