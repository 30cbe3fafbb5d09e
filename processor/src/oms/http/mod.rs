//! An order management system (OMS) that is reached over HTTP: bodies by template, answers by JSON pointers and a table of what
//! they mean, so that it is described and not programmed.
//!
//! # What it promises
//! - [`CallFailure::NotSent`] only where not a byte of an order left, [`CallFailure::Unknown`] where some may have and no complete
//!   answer came. No call is repeated here but one that was refused for its token, of which nothing was done.
//! - A second create of an identity is refused by the OMS, answered as the first was, or looked up before; what is none of
//!   these is [`Guarantee::AtLeastOnce`], and an unknown outcome then waits for a person.
//! - Secrets are in files, and nowhere else. An OMS's words are kept without addresses and long numbers.
//!
//! A call goes on when its caller goes away.
//!
//! ```text
//! mod.rs       what the drain sees     options.rs   what differs from OMS to OMS
//! template.rs  bodies and paths        answer.rs    what an answer means
//! limits.rs    calls a second and day  token.rs     who we are
//! day.rs       those of a day, kept    session.rs   a token against forged requests
//! claim.rs     whose orders it gets
//! ```

mod answer;
mod claim;
mod day;
mod limits;
mod options;
mod session;
mod template;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::Common;
use forebay_buffer::step::Step;
use forebay_order::OrderSummary;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use tokio::time::Instant;

use super::{
    CallFailure, Claim, ClaimPace, Found, Guarantee, Identity, Listed, OrderManagement, Outcome,
};
use crate::outbound::{Answer, Client, Deadlines, Failed, TlsError, tls_client};
use answer::Reading;
use limits::Calls;
use session::Session;
use template::Templates;
use token::Credentials;

pub use options::{
    Answers, Auth, CallLimits, ClaimNote, Create, Find, HttpOptions, List, Meaning, Method, Rule,
};

/// Why an OMS can never be reached like this.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("{name}: {reason}")]
    Address {
        /// The knob.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificates or TLS.
    #[error("oms.roots: {0}")]
    Tls(#[from] TlsError),
    /// A template cannot be read.
    #[error("{name}: {reason}")]
    Template {
        /// The knob.
        name: &'static str,
        /// What is wrong, in which line.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("{name}: {header:?} is no header that can be sent")]
    Header {
        /// The knob.
        name: &'static str,
        /// Its name.
        header: String,
    },
    /// The file with the calls of the last day cannot be used.
    #[error("oms.limits.calls_per_day: {0}")]
    Calls(String),
}

/// An OMS that is reached over HTTP.
#[derive(Clone)]
pub struct Http {
    shared: Arc<Shared>,
}

struct Shared {
    options: HttpOptions,
    /// Without a slash at its end; where orders are created, where they are looked up, and where the claim is kept.
    base: String,
    find_base: String,
    claim_base: String,
    idempotency: Option<HeaderName>,
    /// Of calls that create.
    headers: HeaderMap,
    client: Client,
    credentials: Arc<Credentials>,
    session: Session,
    templates: Templates,
    reading: Reading,
    calls: Calls,
}

impl Http {
    /// Connects to nothing yet: orders are taken in whether the OMS is there or not.
    ///
    /// # Errors
    /// [`OpenError`]: it can never be reached like this.
    pub fn open(options: HttpOptions) -> Result<Self, OpenError> {
        let clock = Arc::new(forebay_buffer::SystemClock);
        let base = address("oms.url", &options.url)?;
        let elsewhere = |name, url: Option<&str>| match url {
            Some(url) => address(name, url),
            None => Ok(base.clone()),
        };
        let find_url = options.find.as_ref().and_then(|find| find.url.as_deref());
        let find_base = elsewhere("oms.find.url", find_url)?;
        let claim_url = options.claim.as_ref().and_then(|claim| claim.url.as_deref());
        let claim_base = elsewhere("oms.claim.url", claim_url)?;
        let key = options.create.idempotency_header.as_deref();
        let idempotency = key.map(|name| header_name("oms.create.idempotency_header", name));
        let headers = options.create.headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| no_header("oms.create.headers", name))?;
            Ok((header_name("oms.create.headers", name)?, value))
        });
        let header_files = options
            .header_files
            .iter()
            .map(|(name, file)| Ok((header_name("oms.header_files", name)?, file.clone())));
        let header_files = header_files.collect::<Result<_, OpenError>>()?;
        let calls = Calls::open(options.limits, options.calls_kept.as_deref(), clock);
        let shared = Shared {
            base,
            find_base,
            claim_base,
            idempotency: idempotency.transpose()?,
            headers: headers.collect::<Result<_, OpenError>>()?,
            client: client(&options)?,
            credentials: Arc::new(Credentials::new(options.auth.clone(), header_files)),
            session: Session::default(),
            templates: Templates::new(&options)?,
            reading: Reading::new(&options),
            calls: calls.map_err(OpenError::Calls)?,
            options,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What it last said of its limits (`Retry-After`, `RateLimit`, `Sforce-Limit-Info` and their like), header by header.
    pub fn limits_told(&self) -> BTreeMap<&'static str, String> {
        self.shared.calls.words()
    }

    /// The same, with the token it has, that waits for an answer only so long: to see what becomes of an order whose line is cut.
    ///
    /// # Errors
    /// [`OpenError`], as [`Http::open`].
    pub fn impatient(&self, answer_timeout: Duration) -> Result<Self, OpenError> {
        let options = self.shared.options.clone();
        let mut other = Self::open(HttpOptions { answer_timeout, calls_kept: None, ..options })?;
        if let Some(shared) = Arc::get_mut(&mut other.shared) {
            shared.credentials = Arc::clone(&self.shared.credentials);
        }
        Ok(other)
    }
}

/// An address, without a slash at its end.
fn address(name: &'static str, url: &str) -> Result<String, OpenError> {
    let base = url.trim_end_matches('/').to_owned();
    let uri: Uri =
        base.parse().map_err(|error| OpenError::Address { name, reason: format!("{error}") })?;
    if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
        let reason = "must begin with https:// or http:// and a host".to_owned();
        return Err(OpenError::Address { name, reason });
    }
    Ok(base)
}

fn header_name(name: &'static str, header: &str) -> Result<HeaderName, OpenError> {
    header.parse().map_err(|_| no_header(name, header))
}

fn no_header(name: &'static str, header: &str) -> OpenError {
    OpenError::Header { name, header: header.to_owned() }
}

impl HttpOptions {
    /// What becomes of a second create.
    pub fn guarantee(&self) -> Guarantee {
        let create = &self.create;
        // An order is sent again in other company, under another key.
        let key = create.idempotency_header.is_some() && create.batch == 1;
        Guarantee::of(create.refuses_second, key, self.find.is_some())
    }

    /// How long one call may take. A submit of several begins none later than that.
    fn call_max(&self) -> Duration {
        self.connect_timeout + self.answer_timeout
    }
}

impl Shared {
    /// One call that changes something: in a session, where the OMS wants one, and in a new one if that is over.
    async fn change(&self, request: Request<Bytes>) -> Result<Answer, CallFailure> {
        let Some(path) = &self.options.csrf_path else { return self.call(request).await };
        let mut over = None;
        loop {
            let fetch = async {
                let mut fetch = get(&self.base, path)?;
                fetch.headers_mut().insert(session::TOKEN, session::FETCH);
                let answer = self.call(fetch).await?;
                self.reading.written(&answer).map(|()| answer)
            };
            let session = self.session.headers(over.as_ref(), fetch).await?;
            let mut once = request.clone();
            once.headers_mut().extend(session.clone());
            let answer = self.call(once).await?;
            match session::is_over(&answer) {
                false => return Ok(answer),
                true if over.is_none() => over = Some(session),
                true => {
                    let why = "it refuses the token that it told at oms.csrf_path".to_owned();
                    return Err(CallFailure::NotSent(why));
                }
            }
        }
    }

    /// One call, with a new token if the one it had is refused.
    async fn call(&self, request: Request<Bytes>) -> Result<Answer, CallFailure> {
        let mut refused = None;
        loop {
            let login = self.credentials.header(&self.client, refused.as_ref()).await?;
            let secrets = self.credentials.headers()?;
            self.calls.turn().await?;
            let mut once = request.clone();
            once.headers_mut().extend(secrets);
            if let Some(login) = &login {
                once.headers_mut().insert(AUTHORIZATION, login.clone());
            }
            let answer = self.client.call(once).await?;
            self.calls.told(answer.status, &answer.headers);
            let again = refused.is_none()
                && self.credentials.renews()
                && !session::is_over(&answer)
                && self.reading.refuses_us(&answer);
            if !again {
                return Ok(answer);
            }
            refused = login;
        }
    }

    fn create(
        &self,
        part: &[Arc<OrderSummary>],
        body: Bytes,
    ) -> Result<Request<Bytes>, CallFailure> {
        let path = self.templates.create(part).map_err(CallFailure::NotSent)?;
        let mut request = Request::builder()
            .method(http::Method::from(self.options.create.method))
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(body)
            .map_err(no_path)?;
        request.headers_mut().extend(self.headers.clone());
        if let (Some(name), [order]) = (&self.idempotency, part) {
            let key = HeaderValue::from_str(&order.key.identity());
            let key =
                key.map_err(|error| CallFailure::NotSent(format!("idempotency key: {error}")))?;
            request.headers_mut().insert(name.clone(), key);
        }
        Ok(request)
    }

    /// Creates these in as many calls as they take; usually one.
    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut parts: Vec<_> = batch.chunks(self.options.create.batch.max(1)).rev().collect();
        let (began, lasting) = (Instant::now(), self.options.call_max());
        while let Some(part) = parts.pop() {
            if !outcomes.is_empty() && began.elapsed() >= lasting {
                // It is long ago that somebody said that they may be sent.
                let unsent = part.len() + parts.iter().map(|part| part.len()).sum::<usize>();
                let later = Outcome::NotDone { after: Duration::ZERO };
                outcomes.extend(std::iter::repeat_n(later, unsent));
                break;
            }
            match self.part(part).await {
                Ok(Part::Done(done)) => outcomes.extend(done),
                Ok(Part::TooLarge) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                // What was not sent by then is not in doubt.
                Err(failure)
                    if outcomes.is_empty()
                        && (parts.is_empty() || !matches!(failure, CallFailure::Unknown(_))) =>
                {
                    return Err(failure);
                }
                // What came before it in this batch has its outcome.
                Err(CallFailure::Refused(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(failure) => {
                    outcomes.extend(part.iter().map(|_| of_order(&failure)));
                    let unsent = parts.iter().map(|part| part.len()).sum();
                    let later = Outcome::NotDone { after: Duration::ZERO };
                    outcomes.extend(std::iter::repeat_n(later, unsent));
                    break;
                }
            }
        }
        Ok(outcomes)
    }

    async fn part(&self, part: &[Arc<OrderSummary>]) -> Result<Part, CallFailure> {
        let invalid = |code: &str, reason| {
            let code = code.to_owned();
            Ok(Part::Done(vec![Outcome::Invalid { code, reason }]))
        };
        let body = match (self.templates.body(part), part) {
            (Ok(body), _) => body,
            (Err(reason), [_]) => return invalid("template", reason),
            (Err(reason), _) => return Err(CallFailure::Refused(reason)),
        };
        let most = self.options.create.bytes;
        match part {
            _ if body.len() <= most => {}
            [_] => {
                let reason = format!("it takes {} bytes, one call may have {most}", body.len());
                return invalid("too_large", reason);
            }
            _ => return Ok(Part::TooLarge),
        }
        let request = self.create(part, body)?;
        let answer = self.change(request).await?;
        Step::Committed.reached(|| answer.status.is_success());
        self.reading.outcomes(part, &answer).map(Part::Done)
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let Some(find) = &self.options.find else {
            return Err(CallFailure::NotSent("it cannot be asked (oms.find)".to_owned()));
        };
        let mut all = Vec::with_capacity(identities.len());
        for asked in identities.chunks(find.batch.max(1)) {
            let path = self.templates.find(asked).map_err(CallFailure::NotSent)?;
            let answer = self.call(get(&self.find_base, &path)?).await?;
            all.extend(self.reading.found(find, asked, &answer)?);
        }
        Ok(all)
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let Some(list) = &self.options.list else { return Ok(None) };
        let path = self.templates.list(after, limit).map_err(CallFailure::NotSent)?;
        let answer = self.call(get(&self.base, &path)?).await?;
        self.reading.listed(list, &answer).map(Some)
    }
}

fn get(base: &str, path: &str) -> Result<Request<Bytes>, CallFailure> {
    let request = Request::get(format!("{base}{path}")).header(ACCEPT, "application/json");
    request.body(Bytes::new()).map_err(no_path)
}

#[expect(clippy::needless_pass_by_value, reason = "stands where an error is mapped")]
fn no_path(error: http::Error) -> CallFailure {
    CallFailure::NotSent(format!("no path comes of the configured one: {error}"))
}

enum Part {
    Done(Vec<Outcome>),
    TooLarge,
}

fn client(options: &HttpOptions) -> Result<Client, TlsError> {
    let tls = tls_client(options.roots.as_deref())?;
    let deadlines = Deadlines { connect: options.connect_timeout, answer: options.answer_timeout };
    Ok(Client::new(tls, deadlines, options.connections))
}

impl From<Failed> for CallFailure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotSent(why) => Self::NotSent(why),
            Failed::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// A call's failure as the outcome of one of its orders.
fn of_order(failure: &CallFailure) -> Outcome {
    match failure {
        CallFailure::Unknown(_) => Outcome::Unknown,
        CallFailure::Overloaded { after, .. } => {
            Outcome::NotDone { after: after.unwrap_or_default() }
        }
        CallFailure::Refused(reason) => {
            Outcome::Invalid { code: "refused".to_owned(), reason: reason.clone() }
        }
        CallFailure::NotSent(_) | CallFailure::GaveUp(_) | CallFailure::Unauthenticated => {
            Outcome::NotDone { after: Duration::ZERO }
        }
    }
}

/// Runs to its end whoever goes away.
async fn to_its_end<T: Send + 'static>(
    call: impl Future<Output = Result<T, CallFailure>> + Send + 'static,
) -> Result<T, CallFailure> {
    let done = tokio::spawn(call).await;
    done.unwrap_or_else(|_| Err(CallFailure::Unknown("its task ended".to_owned())))
}

impl OrderManagement for Http {
    fn guarantee(&self) -> Guarantee {
        self.shared.options.guarantee()
    }

    fn is_test(&self) -> bool {
        self.shared.options.test
    }

    fn identity_max(&self) -> usize {
        self.shared.options.identity_max
    }

    fn keep_to(&self, share: f64, common: &Common) {
        self.shared.calls.keep_to(share, common);
    }

    fn batch_max(&self) -> usize {
        self.shared.options.create.batch
    }

    fn can_find(&self) -> bool {
        self.shared.options.find.is_some()
    }

    fn find_batch(&self) -> usize {
        self.shared.options.find.as_ref().map_or(1, |find| find.batch)
    }

    fn visible_after(&self) -> Duration {
        self.shared.options.find.as_ref().map_or(Duration::ZERO, |find| find.visible_after)
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let (shared, batch) = (Arc::clone(&self.shared), batch.to_vec());
        to_its_end(async move { shared.submit(&batch).await }).await
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        self.shared.find(identities).await
    }

    async fn claim(&self, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
        claim::claim(&self.shared, fleet, take).await
    }

    fn claim_pace(&self) -> ClaimPace {
        claim::PACE
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        self.shared.list(after, limit).await
    }
}
