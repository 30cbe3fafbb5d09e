//! Whoever is told: one signed request at a time, and what its answer means.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::Clock;
use forebay_processor::outbound::{
    Client, Deadlines, Failed, in_the_clear, retry_after, tls_client,
};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};

use super::event::Message;
use super::signature::Secrets;
use super::{EndpointOptions, OpenError};

/// The longest that a receiver's own word is taken for.
const TOLD_MAX: Duration = Duration::from_secs(3_600);

/// Where events are taken.
#[derive(Debug)]
pub(super) struct Receiver {
    uri: Uri,
    secret_file: Arc<PathBuf>,
    client: Client,
}

/// Why a message was not taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody is there.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It may have been taken.
    #[error("{0}")]
    NoAnswer(String),
    /// It said no.
    #[error("it answered {status}{}", hint(*status))]
    Answered {
        /// What it said.
        status: StatusCode,
        /// When to come back, where it said so.
        after: Option<Duration>,
    },
    /// It wants no more, ever.
    #[error("it answered 410 Gone: it wants no more")]
    Gone,
    /// It cannot be signed.
    #[error("secret_file: {0}")]
    Secret(String),
}

fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "; redirects are not followed, set url to where it is now",
        401 | 403 => "; does it have the same secret?",
        404 | 405 => "; is the url right?",
        _ => "",
    }
}

impl Refusal {
    /// How long it is left alone at least, by its own word.
    pub(super) fn come_back(&self) -> Option<Duration> {
        match self {
            Self::Answered { after, .. } => after.map(|after| after.min(TOLD_MAX)),
            _ => None,
        }
    }

    /// The word for metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::NoAnswer(_) => "no_answer",
            Self::Answered { .. } => "refused",
            Self::Gone => "gone",
            Self::Secret(_) => "secret",
        }
    }
}

impl Receiver {
    /// Connects to nothing yet.
    pub(super) fn open(options: &EndpointOptions) -> Result<Self, OpenError> {
        let fault =
            |knob: &str, why: String| OpenError(format!("webhooks.{}.{knob}: {why}", options.name));
        let uri = address(&options.url).map_err(|why| fault("url", why))?;
        Secrets::read(&options.secret_file).map_err(|why| fault("secret_file", why))?;
        let tls = tls_client(options.roots.as_deref());
        let tls = tls.map_err(|error| fault("roots", error.to_string()))?;
        let deadlines =
            Deadlines { connect: options.connect_timeout, answer: options.answer_timeout };
        let secret_file = Arc::new(options.secret_file.clone());
        Ok(Self { uri, secret_file, client: Client::new(tls, deadlines, 1) })
    }

    /// The host, for people. A path may hold what only the two know.
    pub(super) fn host(&self) -> String {
        self.uri.authority().map(ToString::to_string).unwrap_or_default()
    }

    /// Says it once.
    pub(super) async fn take(
        &self,
        message: &Message,
        clock: &dyn Clock,
    ) -> Result<StatusCode, Refusal> {
        let request = self.request(message, clock.wall_ms().div_euclid(1_000)).await?;
        let told = self.client.tell(request).await.map_err(|failed| match failed {
            Failed::NotSent(why) => Refusal::Unreachable(why),
            Failed::Unknown(_) => Refusal::NoAnswer(failed.to_string()),
        })?;
        match told.status {
            status if status.is_success() => Ok(status),
            StatusCode::GONE => Err(Refusal::Gone),
            status => Err(Refusal::Answered { status, after: retry_after(&told.headers) }),
        }
    }

    /// Signed with what its file says now, so that a secret is replaced without a restart.
    async fn request(&self, message: &Message, timestamp: i64) -> Result<Request<Bytes>, Refusal> {
        let path = Arc::clone(&self.secret_file);
        let secrets = tokio::task::spawn_blocking(move || Secrets::read(&path)).await;
        let secrets =
            secrets.unwrap_or_else(|error| Err(error.to_string())).map_err(Refusal::Secret)?;
        let request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(message.content_type))
            .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", secrets.sign(&message.id, timestamp, &message.body))
            .body(message.body.clone());
        request.map_err(|error| Refusal::Unreachable(error.to_string()))
    }
}

/// A receiver's address.
///
/// # Errors
/// Why nothing is sent there.
pub fn address(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("is no address: {error}"))?;
    uri.host().ok_or("must begin with https:// and a host")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            "must hold no user or password, which would be shown; the signature says who we are"
                .to_owned(),
        );
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if !in_the_clear(url) => Ok(uri),
        Some("http") => Err("must begin with https://, for orders are nobody else's business; http:// is for loopback".to_owned()),
        _ => Err("must begin with https:// and a host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_told_in_the_clear() {
        for url in [
            "https://shop.example/hooks",
            "http://127.0.0.1:9/x",
            "http://[::1]:9",
            "http://localhost/x",
        ] {
            assert!(address(url).is_ok(), "{url}");
        }
        for (url, why) in [
            ("http://shop.example/hooks", "https://"),
            ("https://me:pass@shop.example/", "no user"),
            ("ftp://shop.example/", "https://"),
            ("/hooks", "a host"),
            ("", "no address"),
        ] {
            let said = address(url).unwrap_err();
            assert!(said.contains(why) && !said.contains("pass@"), "{url}: {said}");
        }
    }

    #[test]
    fn a_receiver_is_left_alone_as_it_says_and_not_for_ever() {
        let said = |after| Refusal::Answered { status: StatusCode::SERVICE_UNAVAILABLE, after };
        let seconds = Duration::from_secs;
        assert_eq!(said(Some(seconds(90))).come_back(), Some(seconds(90)));
        assert_eq!(said(Some(Duration::MAX)).come_back(), Some(seconds(3_600)));
        assert_eq!(said(None).come_back(), None);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let said = |code: u16| {
            let status = StatusCode::from_u16(code).unwrap();
            Refusal::Answered { status, after: None }.to_string()
        };
        assert!(said(302).contains("redirects are not followed"));
        assert!(said(401).contains("same secret"));
        assert_eq!(said(500), "it answered 500 Internal Server Error");
    }
}
