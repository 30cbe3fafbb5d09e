//! The reference OMS in a process of its own, reached over HTTP. It refuses no second create, so that doubles show.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::failure::{Failure, Result, While as _};

/// Its ledger, beside the store.
const LEDGER: &str = "reference.db";
/// Which is written to with each commit.
pub(super) const LOG: &str = "reference.db-wal";

/// A running one; dropping it ends it.
#[derive(Debug)]
pub(super) struct ReferenceOms {
    process: Child,
    url: String,
}

impl ReferenceOms {
    /// Starts it in a directory.
    pub(super) fn start(binary: &Path, place: &Path) -> Result<Self> {
        let write = |name: &str, text: &str| std::fs::write(place.join(name), text).when(name);
        write("client.id", "torture")?;
        write("client.secret", "of the torture")?;
        write("faults.json", r#"{"unique": false}"#)?;
        let mut command = Command::new(binary);
        command.args(["oms", "serve", "--listen", "127.0.0.1:0", "--db", LEDGER]);
        command.args(["--client-id-file", "client.id", "--client-secret-file", "client.secret"]);
        command.args(["--faults", "faults.json"]).current_dir(place);
        let log = std::fs::File::create(place.join("reference.log")).when("reference.log")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let process = command.spawn().when("starting the reference OMS")?;
        let mut oms = Self { process, url: String::new() };
        let mut line = String::new();
        if let Some(stdout) = oms.process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).when("the reference OMS's ready line")?;
        }
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = ready.pointer("/ready/listen").and_then(Value::as_str).map(str::to_owned);
        oms.url = url.ok_or_else(|| Failure::broken("the reference OMS", "it is not ready"))?;
        Ok(oms)
    }

    /// Where it answers.
    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.url.trim_start_matches("http://").parse().when("the reference OMS's address")
    }

    /// How the server under torture is told of it: the end of its section `[oms]`, and those that belong to it.
    pub(super) fn configuration(&self, place: &Path) -> String {
        let url = &self.url;
        let file = |name: &str| place.join(name).display().to_string();
        let (id, secret) = (file("client.id"), file("client.secret"));
        format!(
            "kind = \"http\"\nurl = {url:?}\nclaim = \"none\"\n\
             [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/oauth/token\"\n\
             client_id_file = {id:?}\nclient_secret_file = {secret:?}\n\
             [oms.create]\npath = \"/v1/orders\"\nbatch = 100\nanswers = {{ items = \"/results\" }}\n\
             [oms.find]\nbatch = 100\nitems = \"/items\"\nidentity = \"/identity\"\nid = \"/id\"\n\
             fingerprint = \"/fingerprint\"\nvisible_after = \"20ms\"\n\
             path = \"/v1/orders?{{% for i in identities %}}identity={{{{ i }}}}&{{% endfor %}}\"\n\
             [oms.list]\npath = \"/v1/orders/list?after={{{{ after }}}}&limit={{{{ limit }}}}\"\nitems = \"/items\"\n"
        )
    }
}

impl Drop for ReferenceOms {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
