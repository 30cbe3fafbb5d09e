//! How an OMS is reached over HTTP, and what its answers mean: all that differs from one to another.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::oms::Scope;

/// An OMS that is reached over HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// As `https://oms.example/api`; all paths are below it.
    pub url: String,
    /// Certificates to trust beside the system's, in one PEM file.
    pub roots: Option<PathBuf>,
    /// Marked as a test OMS; only such a one gets synthetic orders.
    pub test: bool,
    /// Connections that are kept while nothing is sent.
    pub connections: usize,
    /// The longest identity it stores, in bytes.
    pub identity_max: usize,
    /// The connection is waited for so long; nothing has left by then.
    pub connect_timeout: Duration,
    /// The whole answer is waited for so long, from when the order leaves.
    pub answer_timeout: Duration,
    /// Who we are.
    pub auth: Auth,
    /// Headers whose values are secrets, each with the file that holds its value; read anew with each call, of whatever kind, but those
    /// for tokens.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The path, below the address, at which a token against forged requests (CSRF) is told to whoever asks for it; calls that change
    /// something then have it, with the cookies that came with it. `None`: they need none.
    pub csrf_path: Option<String>,
    /// How orders are created.
    pub create: Create,
    /// How they are looked up, where that is possible.
    pub find: Option<Find>,
    /// How they are listed, where that is possible.
    pub list: Option<List>,
    /// Where it keeps whose orders are drained to it, if it does.
    pub claim: Option<ClaimNote>,
    /// What answers mean, before what they usually do; the first that fits counts.
    pub rules: Vec<Rule>,
    /// What calls are kept to.
    pub limits: CallLimits,
    /// The file in which the calls of the last day are kept; `None`: a restart forgets them.
    pub calls_kept: Option<PathBuf>,
}

/// Who we are. Secrets are in files, read anew whenever they are needed.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nobody.
    Nobody,
    /// A fixed token.
    Bearer {
        /// Holds the token.
        token_file: PathBuf,
    },
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// Holds the password.
        password_file: PathBuf,
    },
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4); one token at a time, renewed before it ends or once it is refused.
    ClientCredentials {
        /// Where tokens are had.
        token_url: String,
        /// Holds the client's id.
        client_id_file: PathBuf,
        /// Holds the client's secret.
        client_secret_file: PathBuf,
        /// What is asked for, if that must be said.
        scope: Option<String>,
    },
}

/// How orders are created.
#[derive(Clone)]
pub struct Create {
    /// How they are sent.
    pub method: Method,
    /// The template of where they are sent to, below the address, which is given `identity`, percent-encoded; that only with one
    /// order a call.
    pub path: String,
    /// Headers that each of these calls has. No secrets: see [`HttpOptions::header_files`].
    pub headers: BTreeMap<String, String>,
    /// The template of a body (minijinja), which is given `orders`, each with `identity`, `fingerprint` and `order`, the order
    /// summary, and `values`. Values are written as JSON. `None`: `{"orders": [...]}` of just the orders.
    pub body: Option<String>,
    /// What the template is given beside the orders: what differs from one customer of the OMS to another.
    pub values: BTreeMap<String, String>,
    /// Orders in one call at most.
    pub batch: usize,
    /// Bytes of one call's body at most.
    pub bytes: usize,
    /// The header that is given the order's identity, for an OMS that answers a repeat of it as it answered the first. With one
    /// order a call only.
    pub idempotency_header: Option<String>,
    /// It refuses a second create of an identity.
    pub refuses_second: bool,
    /// Where what it says is in its answers.
    pub answers: Answers,
}

impl fmt::Debug for Create {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Create")
            .field("path", &self.path)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

/// How orders are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// To a collection, usually.
    #[default]
    Post,
    /// To the order's own path.
    Put,
    /// The same.
    Patch,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
        }
    }
}

/// Where what the OMS says of an order is in its answers: JSON pointers (RFC 6901), of which the first that leads to something
/// counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// To the array with one answer an order. `None`: the body is the answer of the one order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// In an answer: the identity of its order. `None`: answers come in the order sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// In an answer: the OMS's id of the summary.
    pub id: Vec<String>,
    /// The header whose address ends in the OMS's id, as `Location` does, where the body does not tell it. With one order a call
    /// only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_header: Option<String>,
    /// In an answer: the ticket of one that is taken but not done.
    pub ticket: Vec<String>,
    /// In an answer: its own status, where that is not the call's.
    pub status: Vec<String>,
    /// In an answer, and in the body of a call that failed: the code of what is wrong.
    pub code: Vec<String>,
    /// There, too: what is wrong, in words.
    pub reason: Vec<String>,
    /// In an answer: the fingerprint stored beside the summary.
    pub fingerprint: Vec<String>,
}

impl Answers {
    /// All of them.
    pub fn pointers(&self) -> impl Iterator<Item = &String> {
        let Self { items, identity, id, id_header: _, ticket, status, code, reason, fingerprint } =
            self;
        let lists = [id, ticket, status, code, reason, fingerprint];
        items.iter().chain(identity).chain(lists.into_iter().flatten())
    }
}

impl Default for Answers {
    fn default() -> Self {
        let list = |pointers: &[&str]| pointers.iter().map(|one| (*one).to_owned()).collect();
        Self {
            items: None,
            identity: None,
            id: list(&["/id"]),
            id_header: None,
            ticket: list(&["/ticket"]),
            status: list(&["/status"]),
            code: list(&["/code", "/error/code", "/errors/0/code", "/0/errorCode"]),
            reason: list(&["/message", "/error/message", "/errors/0/message", "/0/message"]),
            fingerprint: list(&["/fingerprint"]),
        }
    }
}

/// How orders are looked up.
#[derive(Clone, Debug)]
pub struct Find {
    /// Where it is asked, if not at the address where orders are created.
    pub url: Option<String>,
    /// The template of the path, below the address, which is given `identities`, percent-encoded, and `identity`, the first of them.
    pub path: String,
    /// Identities in one call at most.
    pub batch: usize,
    /// To the array of orders found, each named by its identity. `None`: the body is the one order, and 404 says that it is absent.
    pub items: Option<String>,
    /// In an order found: its identity.
    pub identity: String,
    /// In an order found: the OMS's id of it.
    pub id: String,
    /// In an order found: the fingerprint stored beside it.
    pub fingerprint: Option<String>,
    /// How long after a call was cut off its orders may still come to be found: the OMS may be working on it then.
    pub visible_after: Duration,
}

/// How orders are listed, for reconciliation.
#[derive(Clone, Debug)]
pub struct List {
    /// The template of the path, below the address, which is given `after`, a cursor, and `limit`.
    pub path: String,
    /// To the array of orders, in the order they were committed, each written as [`crate::Listed`] is.
    pub items: String,
}

/// The one record in which it keeps whose orders are drained to it.
#[derive(Clone, Debug)]
pub struct ClaimNote {
    /// Where it is, if not at the address where orders are created.
    pub url: Option<String>,
    /// The path it is read at, below the address. 404 with a JSON body, or no name in it, says that nobody's are.
    pub path: String,
    /// How it is written, whether it is there or not.
    pub method: Method,
    /// The path it is written at, if that is another.
    pub write_path: Option<String>,
    /// The template of what is written (minijinja), which is given `fleet` and `since_ms`. `None`: an object of the two.
    pub body: Option<String>,
    /// In the record: the fleet's name, a UUID.
    pub fleet: String,
    /// In the record: since when, ms since 1970, as a number or its digits.
    pub since_ms: String,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only with this status; `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Only with this code; `None`: any, also none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What it means then.
    pub is: Meaning,
    /// Of [`Meaning::Overloaded`]: which limit it speaks of.
    #[serde(default)]
    pub scope: Scope,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// The summary exists now.
    Created,
    /// It had been there.
    Existing,
    /// It is taken, the outcome comes later; without a ticket it is known by its identity.
    Accepted,
    /// Definitely refused, and will be again. Of a whole call: one of its orders may be why.
    Invalid,
    /// Definitely not done; may be tried again.
    Retry,
    /// Definitely not done, for a limit is reached.
    Overloaded,
    /// Definitely not done, for the credentials are refused.
    Unauthenticated,
    /// Definitely not done: the OMS is not there, or not where it is looked for.
    Unavailable,
    /// Nobody can say.
    Unknown,
}

/// What calls are kept to, beside the drain's own limits; of all processes that drain the same orders together. Zero or `None` is
/// no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallLimits {
    /// Calls a second, of every kind.
    pub calls_per_s: Option<f64>,
    /// Calls in any 24 hours that this account may make.
    pub calls_per_day: Option<u64>,
    /// How much of those is kept for others that use the account, from 0 to 1.
    pub reserve: f64,
}
