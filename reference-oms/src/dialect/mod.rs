//! In which words an OMS speaks: paths, bodies and refusals. What it does is the same in each.
//!
//! ```text
//! mod.rs        what a dialect is       generic.rs  our own
//! salesforce.rs commercetools.rs        a batch a call
//! dynamics.rs   netsuite.rs   sap.rs    an order a call
//! ```

mod commercetools;
mod dynamics;
mod generic;
mod netsuite;
mod quoted;
mod salesforce;
mod sap;

use http::{HeaderName, Method, Uri};

use crate::order::{Found, Kind, Listed, Order, Outcome, Refusal};

/// The dialects there are, as far as their vendors' public documentation says how they speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A plain JSON interface, with a status for each order of a batch.
    #[default]
    Generic,
    /// Salesforce Order Management with High-Scale Orders.
    Salesforce,
    /// Dynamics 365 on Dataverse.
    Dynamics,
    /// NetSuite's REST record service.
    NetSuite,
    /// The Import API of commercetools.
    Commercetools,
    /// SAP S/4HANA's OData service of sales orders.
    Sap,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Generic,
        Self::Salesforce,
        Self::Dynamics,
        Self::NetSuite,
        Self::Commercetools,
        Self::Sap,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Salesforce => "salesforce",
            Self::Dynamics => "dynamics",
            Self::NetSuite => "netsuite",
            Self::Commercetools => "commercetools",
            Self::Sap => "sap",
        }
    }

    /// How it speaks.
    pub(crate) fn words(self) -> &'static dyn Words {
        match self {
            Self::Generic => &generic::Generic,
            Self::Salesforce => &salesforce::Salesforce,
            Self::Dynamics => &dynamics::Dynamics,
            Self::NetSuite => &netsuite::NetSuite,
            Self::Commercetools => &commercetools::Commercetools,
            Self::Sap => &sap::Sap,
        }
    }
}

/// How a dialect speaks.
pub(crate) trait Words: Sync {
    /// What a request wants.
    fn kind(&self, method: &Method, path: &str) -> Kind;

    /// The orders of a create call, or what is wrong with it.
    fn orders(&self, uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String>;

    /// Whether what changes something must be in a session, with its token against forged requests.
    fn wants_session(&self) -> bool {
        false
    }

    /// Orders in a create call at most, where the vendor says it.
    fn batch_max(&self) -> Option<usize> {
        None
    }

    /// The answer to a create call: what became of each order, by the caller's name of it.
    fn results(&self, outcomes: &[(String, Outcome)], error_in_200: bool) -> Said;

    /// The identities that a look-up wants, or what is wrong with it.
    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String>;

    /// The answer to it.
    fn found(&self, uri: &Uri, wanted: &[String], found: &[Found]) -> Said;

    /// A page of orders, for a dialect that has lists.
    fn listed(&self, listed: &[Listed]) -> Vec<u8> {
        generic::listed(listed)
    }

    /// A call refused as a whole.
    fn refusal(&self, refusal: &Refusal) -> Said;
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) header: Option<(HeaderName, String)>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    fn new(status: u16, body: &serde_json::Value) -> Self {
        Self { status, header: None, body: body.to_string().into_bytes() }
    }
}
