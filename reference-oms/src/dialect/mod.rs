//! In which words an OMS speaks: paths, bodies and refusals. What it does is the same in each.

mod generic;

use http::Method;

use crate::order::{Found, Kind, Listed, Order, Outcome, Refusal};

/// The dialects there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A plain JSON interface, with a status for each order of a batch.
    #[default]
    Generic,
}

impl Dialect {
    /// What a request wants.
    pub(crate) fn kind(self, method: &Method, path: &str) -> Kind {
        match self {
            Self::Generic => generic::kind(method, path),
        }
    }

    /// The orders of a create call, or what is wrong with it.
    pub(crate) fn read_orders(self, body: &[u8]) -> Result<Vec<Order>, String> {
        match self {
            Self::Generic => generic::read_orders(body),
        }
    }

    /// The answer to a create call.
    pub(crate) fn results(self, outcomes: &[Outcome], error_in_200: bool) -> Vec<u8> {
        match self {
            Self::Generic => generic::results(outcomes, error_in_200),
        }
    }

    /// The answer to a look-up.
    pub(crate) fn found(self, found: &[Found]) -> Vec<u8> {
        match self {
            Self::Generic => generic::found(found),
        }
    }

    /// A page of orders.
    pub(crate) fn listed(self, listed: &[Listed]) -> Vec<u8> {
        match self {
            Self::Generic => generic::listed(listed),
        }
    }

    /// The body of a call refused as a whole.
    pub(crate) fn refusal(self, refusal: &Refusal) -> Vec<u8> {
        match self {
            Self::Generic => generic::refusal(refusal),
        }
    }
}
