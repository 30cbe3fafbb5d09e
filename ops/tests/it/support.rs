//! A buffer with orders of which something becomes, and endpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{
    Buffer, Clock, Envelope, ExceptionCategory, FeedKind, Memory, SystemClock, Verdict,
};
use forebay_ops::webhooks::{
    Beginning, EndpointOptions, EndpointState, EndpointStatus, Settings, Webhooks, store_name,
};
use forebay_order::{Fingerprint, OrderKey};
use forebay_processor::RetryPolicy;

/// No wait of a test is longer; one that reaches it fails.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// A shop whose orders are told of.
pub(crate) struct Shop {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) buffer: Memory,
    clock: Arc<dyn Clock>,
}

impl Shop {
    pub(crate) fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let buffer = Memory::new(1_000, 1 << 20, Arc::clone(&clock));
        let shop = Self { directory, buffer, clock };
        shop.keep_secrets(&format!("{SECRET}\n"));
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn keep_secrets(&self, text: &str) {
        std::fs::write(self.path("secret"), text).unwrap();
    }

    /// An order comes.
    pub(crate) async fn accept(&self, id: &str) {
        self.accept_as(id, false).await;
    }

    pub(crate) async fn accept_as(&self, id: &str, synthetic: bool) {
        let body = Bytes::from(format!("order {id}"));
        let permit = self.buffer.admission().admit(body.len()).unwrap();
        let fingerprint = Fingerprint([id.len().try_into().unwrap(); 16]);
        let envelope = Envelope::new(OrderKey::new("shop", "de", id), fingerprint, body);
        self.buffer.append(Envelope { synthetic, ..envelope }, permit).await.unwrap();
    }

    /// The next order gets its summary.
    pub(crate) async fn summarise(&self, summary_id: &str) {
        self.settle(Verdict::Summarised { summary_id: summary_id.to_owned(), existing: false })
            .await;
    }

    /// The next order becomes an exception.
    pub(crate) async fn reject(&self, reason: &str) {
        let category = ExceptionCategory::Rejected;
        self.settle(Verdict::Exception { category, reason: reason.to_owned() }).await;
    }

    async fn settle(&self, verdict: Verdict) {
        let leases = in_time("a lease", self.buffer.lease(1, DEADLINE)).await.unwrap();
        leases.into_iter().next().unwrap().settle(verdict);
    }

    /// An endpoint that is told everything from the start, and asks again soon.
    pub(crate) fn endpoint(&self, url: &str) -> EndpointOptions {
        EndpointOptions {
            name: "mail".to_owned(),
            url: url.to_owned(),
            secret_file: self.path("secret"),
            source: None,
            kinds: FeedKind::ALL.to_vec(),
            synthetic: false,
            from: Beginning::Start,
            batch: 1,
            roots: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(15),
            retry: RetryPolicy { base: Duration::from_millis(1), max: Duration::from_millis(20) },
        }
    }

    pub(crate) async fn start(&self, endpoint: EndpointOptions) -> Webhooks {
        let settings = Settings {
            directory: self.path("webhooks"),
            store: store_name(&[7; 32]),
            endpoints: vec![endpoint],
        };
        Webhooks::start(settings, &self.buffer, &self.clock).await.unwrap()
    }

    pub(crate) fn cursor(&self) -> u64 {
        cursor(&self.path("webhooks"))
    }
}

fn cursor(directory: &Path) -> u64 {
    let text = std::fs::read(directory.join("mail.cursor")).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
    line["cursor"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn status(webhooks: &Webhooks) -> EndpointStatus {
    webhooks.board().status().remove(0)
}

/// Returns once the endpoint stands so.
pub(crate) async fn until(
    webhooks: &Webhooks,
    stands: impl Fn(&EndpointStatus) -> bool,
) -> EndpointStatus {
    in_time("an endpoint's status", async {
        loop {
            let status = status(webhooks);
            if stands(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

pub(crate) async fn until_up_to_date(webhooks: &Webhooks, taken: u64) {
    until(webhooks, |status| {
        status.taken == taken
            && status.waiting_since_ms.is_none()
            && status.state == EndpointState::Ok
    })
    .await;
}

/// Stops them in order.
pub(crate) async fn stop(webhooks: Webhooks) {
    in_time("a stop", webhooks.stop(DEADLINE)).await;
}
