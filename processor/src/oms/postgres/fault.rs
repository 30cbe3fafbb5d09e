//! What an error of the server means: for the order, for the call, or for nobody to say.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::oms::{CallFailure, Scope};

/// Why a statement of a transaction failed. Nothing of the transaction stands.
#[derive(Debug)]
pub(super) enum Fault {
    /// One of the orders', and would be again.
    Order { code: &'static str, reason: String },
    /// The server's, or of the way to it.
    Call(CallFailure),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let code = error.code().map(SqlState::code).unwrap_or_default();
        // Classes of the SQL standard: data exception, integrity constraint violation.
        let (word, of_order) = match code.get(..2) {
            Some("22") => ("data", true),
            Some("23") => ("constraint", true),
            _ => ("", false),
        };
        if of_order {
            return Self::Order {
                code: word,
                reason: format!("the tables refuse it: {}", message(&error)),
            };
        }
        Self::Call(not_done(&error))
    }
}

/// Before the commit: nothing was done.
pub(super) fn not_done(error: &Error) -> CallFailure {
    let Some(state) = error.code() else {
        return CallFailure::NotSent(format!("the connection failed: {}", message(error)));
    };
    let concurrency = CallFailure::Overloaded { after: None, scope: Scope::Concurrency };
    match *state {
        SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::TOO_MANY_CONNECTIONS => concurrency,
        // As one without TLS where the server wants it: mended there or in the address, by no other password.
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message(error).contains("pg_hba.conf") => {
            CallFailure::NotSent(message(error))
        }
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            CallFailure::Unauthenticated
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => CallFailure::NotSent(
            "the server only reads now; another one may have taken over".to_owned(),
        ),
        _ => CallFailure::NotSent(format!("{} ({})", message(error), state.code())),
    }
}

/// At the commit: definite only where the server says so and still stands.
pub(super) fn at_commit(error: &Error) -> CallFailure {
    let class = error.code().and_then(|state| state.code().get(..2));
    match class {
        Some("23" | "40") => not_done(error),
        _ => CallFailure::Unknown(format!("the commit was not answered: {}", message(error))),
    }
}

/// What the server says, without its detail, which has values of rows; otherwise what went wrong and why, as of a certificate.
fn message(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text.push_str(&format!(": {why}"));
        cause = why.source();
    }
    text
}
