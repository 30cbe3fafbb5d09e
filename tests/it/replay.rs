//! The OMS is put back to an earlier day: what it lost since is sent again, once, and nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::bodies::{JSON, own};
use crate::harness::Forebay;
use crate::oms::{self, Oms};

fn post(forebay: &Forebay, ids: std::ops::Range<u32>) {
    for id in ids {
        let answer = forebay.post("forebay", JSON, own(&id.to_string(), "10.00").as_bytes());
        assert_eq!(answer.status, 202, "{}", forebay.log());
    }
}

/// Waits until so many are summarised and nothing is on its way.
fn summarised(forebay: &Forebay, count: u64) {
    forebay.until("orders summarised", |forebay| {
        let status = forebay.view("/v1/status");
        let number = |path: &str| status.pointer(path).and_then(Value::as_u64);
        let waiting = ["pending", "leased", "submitted"];
        let left: Option<u64> =
            waiting.iter().map(|state| number(&format!("/buffer/live/{state}"))).sum();
        (left == Some(0) && number("/buffer/ended/summarised") == Some(count)).then_some(())
    });
}

fn replay(forebay: &Forebay, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["replay", "--json", "--ops", &forebay.ops.to_string()])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", forebay.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How often each identity is in the OMS.
fn in_oms(forebay: &Forebay) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for summary in forebay.summaries() {
        *times.entry(summary["identity"].to_string()).or_default() += 1;
    }
    times
}

/// An OMS that can be put back to an earlier day.
trait Restorable {
    /// What stands in the configuration of it.
    fn section(&self) -> String;
    /// It and the service are down: its files are copied.
    fn back_up(&mut self, forebay: &Forebay);
    /// They are as they were then.
    fn restore(&mut self, forebay: &Forebay);
    /// It runs again, if it is a process of its own.
    fn start(&mut self);
}

/// Every file of a database of that name, to another directory; what is there of it before is gone.
fn copy(name: &str, from: &Path, to: &Path) {
    let of = |directory: &Path| -> Vec<PathBuf> {
        let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).collect()
    };
    of(to).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    for path in of(from) {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// In the service's own process.
struct Embedded;

impl Restorable for Embedded {
    fn section(&self) -> String {
        String::new()
    }

    fn back_up(&mut self, forebay: &Forebay) {
        copy("oms.sqlite", &forebay.data_dir(), forebay.beside());
    }

    fn restore(&mut self, forebay: &Forebay) {
        copy("oms.sqlite", forebay.beside(), &forebay.data_dir());
    }

    fn start(&mut self) {}
}

/// The reference OMS, over HTTP; it would take an order twice.
struct Reference {
    files: TempDir,
    oms: Option<Oms>,
    address: SocketAddr,
}

impl Reference {
    fn new() -> Self {
        let files = oms::directory(r#"{"unique": false}"#);
        let oms = Oms::start_with(&[], files.path());
        Self { files, address: oms.address, oms: Some(oms) }
    }

    fn stop(&mut self) {
        assert!(self.oms.take().unwrap().end(Signal::TERM).success());
    }
}

impl Restorable for Reference {
    fn section(&self) -> String {
        let (url, at) = (format!("http://{}", self.address), self.files.path().display());
        format!(
            "[oms]\nkind = \"http\"\nurl = \"{url}\"\ntest = true\nclaim = \"none\"\n\
             [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/oauth/token\"\n\
             client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
             [oms.create]\npath = \"/v1/orders\"\nbatch = 100\nanswers = {{ items = \"/results\" }}\n\
             [oms.find]\npath = \"/v1/orders?{{% for i in identities %}}identity={{{{ i }}}}&{{% endfor %}}\"\nbatch = 50\n\
             items = \"/items\"\nidentity = \"/identity\"\nid = \"/id\"\nfingerprint = \"/fingerprint\"\nvisible_after = \"100ms\"\n\
             [oms.list]\npath = \"/v1/orders/list?after={{{{ after }}}}&limit={{{{ limit }}}}\"\nitems = \"/items\"\n"
        )
    }

    fn back_up(&mut self, forebay: &Forebay) {
        self.stop();
        copy("oms.db", self.files.path(), forebay.beside());
    }

    fn restore(&mut self, forebay: &Forebay) {
        self.stop();
        copy("oms.db", forebay.beside(), self.files.path());
    }

    fn start(&mut self) {
        let address = self.address.to_string();
        self.oms = Some(Oms::start_with(&["--listen", &address], self.files.path()));
    }
}

#[test]
fn what_a_restored_oms_lost_is_sent_again_and_nothing_else() {
    is_sent_again(&mut Embedded);
}

#[test]
fn what_a_restored_oms_over_http_lost_is_sent_again_and_nothing_else() {
    is_sent_again(&mut Reference::new());
}

fn is_sent_again(oms: &mut impl Restorable) {
    let config = format!(
        "[buffer]\nslot_bytes = \"4MiB\"\nburst_reserve = 1\nreplay_window = \"1h\"\n\
         [drain]\nceiling_per_s = 2000.0\nretry_base = \"20ms\"\nretry_max = \"200ms\"\n{}",
        oms.section()
    );
    let mut forebay = Forebay::start(&config);
    post(&forebay, 0..40);
    summarised(&forebay, 40);
    // The backup of that day.
    assert!(forebay.stop().success());
    oms.back_up(&forebay);
    oms.start();
    forebay.start_again();
    post(&forebay, 40..1_040);
    summarised(&forebay, 1_040);
    assert_eq!(in_oms(&forebay).len(), 1_040);

    // It is back at that day, and the buffer has died too.
    forebay.kill();
    oms.restore(&forebay);
    oms.start();
    forebay.start_again();
    assert_eq!(in_oms(&forebay).len(), 40);

    let counted = replay(&forebay, &["--since", "30m", "--dry-run"]);
    assert_eq!(
        (counted["looked_up"].as_u64(), counted["absent"].as_u64()),
        (Some(1_040), Some(1_000))
    );
    assert_eq!(counted["again"], 0);
    let replayed = replay(&forebay, &["--since", "30m"]);
    assert_eq!(
        (replayed["absent"].as_u64(), replayed["again"].as_u64()),
        (Some(1_000), Some(1_000))
    );
    // What waits again survives.
    forebay.kill();
    forebay.start_again();
    summarised(&forebay, 1_040);
    let times = in_oms(&forebay);
    assert_eq!((times.len(), times.values().max()), (1_040, Some(&1)));
    let nothing = replay(&forebay, &["--since", "30m"]);
    assert_eq!((nothing["looked_up"].as_u64(), nothing["absent"].as_u64()), (Some(1_040), Some(0)));
    assert!(forebay.stop().success());
}
