//! The governed drain: leases pending orders from the buffer and creates order summaries in the order
//! management system (OMS), never faster than its ceiling.

pub mod governor;
pub mod oms;

pub use governor::{Governor, Grant, Limiter, Limits};
pub use oms::{CallFailure, Found, Guarantee, Identity, OrderManagement, Outcome, Scope};
