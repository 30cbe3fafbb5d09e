//! The OMS of the sale: a reference OMS in a process of its own, reached over HTTP as a real one is, which keeps its own books.

use std::net::SocketAddr;
use std::path::Path;

use hyper::Method;
use serde::Deserialize;
use tokio::process::Child;

use super::process::{self, stop};
use crate::cli::client;

/// Who the service is to the OMS. Nobody but this machine reaches it, and it ends with the sale.
const CLIENT: (&str, &str) = ("demo", "of the demo only");

/// A running reference OMS.
pub(super) struct ReferenceOms {
    child: Child,
    address: SocketAddr,
}

/// The line `oms serve` prints when it is ready.
#[derive(Deserialize)]
struct Ready {
    ready: Listens,
}

#[derive(Deserialize)]
struct Listens {
    listen: String,
}

/// What the OMS says of the sale, by its own ledger.
#[derive(Debug, Deserialize)]
pub(super) struct Judgement {
    /// Creates, with doubles.
    pub(super) creates: u64,
    /// Identities created more than once.
    pub(super) doubles: u64,
    /// The most creates in any one second.
    pub(super) peak_orders_per_s: u32,
    /// The most calls in any one second.
    pub(super) peak_calls_per_s: u64,
    pub(super) tokens_issued: u64,
}

impl ReferenceOms {
    /// Starts it in a directory.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn start(directory: &Path) -> Result<Self, String> {
        let path = |name: &str| directory.join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(path(name), text)
                .map_err(|error| format!("{}: {error}", path(name).display()))
        };
        write("client.id", CLIENT.0)?;
        write("client.secret", CLIENT.1)?;
        let mut command = process::this_binary()?;
        command.args(["oms", "serve", "--listen", "127.0.0.1:0", "--db"]).arg(path("oms.db"));
        command.arg("--client-id-file").arg(path("client.id"));
        command.arg("--client-secret-file").arg(path("client.secret"));
        let (child, ready) = process::start::<Ready>(command, &path("oms.log"), "the OMS").await?;
        let listens = ready.ready.listen;
        let address = listens.trim_start_matches("http://").parse();
        let address = address.map_err(|error| format!("the OMS listens on {listens}: {error}"))?;
        Ok(Self { child, address })
    }

    /// The configuration of a service that drains to it. Its orders are marked synthetic, and reach only a test OMS.
    pub(super) fn configuration(&self, directory: &Path) -> String {
        let url = format!("http://{}", self.address);
        let file = |name: &str| directory.join(name).display().to_string();
        let (id, secret) = (file("client.id"), file("client.secret"));
        format!(
            "[oms]\nkind = \"http\"\nurl = {url:?}\ntest = true\nclaim = \"none\"\n\
             [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/oauth/token\"\n\
             client_id_file = {id:?}\nclient_secret_file = {secret:?}\n\
             [oms.create]\npath = \"/v1/orders\"\nbatch = 250\nrefuses_second = true\nanswers = {{ items = \"/results\" }}\n\
             [oms.find]\nbatch = 100\nitems = \"/items\"\nidentity = \"/identity\"\nid = \"/id\"\n\
             fingerprint = \"/fingerprint\"\nvisible_after = \"500ms\"\n\
             path = \"/v1/orders?{{% for i in identities %}}identity={{{{ i }}}}&{{% endfor %}}\"\n\
             [oms.list]\npath = \"/v1/orders/list?after={{{{ after }}}}&limit={{{{ limit }}}}\"\nitems = \"/items\"\n"
        )
    }

    /// What came, by its own ledger.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn judge(&self) -> Result<Judgement, String> {
        let judged = client::request(self.address, Method::GET, "/judge").await;
        let judged = judged.map_err(|(_, why)| why)?;
        serde_json::from_value(judged).map_err(|error| format!("the OMS's judgement: {error}"))
    }

    /// Asks it to stop, and waits.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        stop(&mut self.child, "the OMS").await
    }
}

impl Judgement {
    /// For people.
    pub(super) fn line(&self) -> String {
        format!(
            "the OMS itself: {} created, {} twice; at most {} orders and {} calls in any one second; {} tokens",
            self.creates,
            self.doubles,
            self.peak_orders_per_s,
            self.peak_calls_per_s,
            self.tokens_issued
        )
    }
}
