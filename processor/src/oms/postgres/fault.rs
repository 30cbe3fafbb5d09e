//! What an error of the server means: for the order, for the call, or for nobody to say.
//!
//! | SQLSTATE | whose | answer |
//! |---|---|---|
//! | 22 data, 23 and 44 constraint, 54 limit | the order's | invalid, with that word |
//! | P0, 38, 39, 09, 27: of a trigger that the database's owner made | the order's | invalid, `trigger` |
//! | 57014 a statement that took too long, 53200 memory, XX000 | an order's or the server's | gave up: the call is tried in halves |
//! | 40 rolled back, 55P03 a lock, 53300 and 53400 too many | the server's, for a moment | overloaded |
//! | 28 | ours | credentials refused; not sent, where `pg_hba.conf` is why |
//! | 25006 only reads, 57P shutting down or starting, 58 and 53100 disk, XX001 damage, 08 connection | the server's | not sent |
//! | 42, 3D, 3F, 0A, 26: a database that is not as we know it | ours, or its owner's | not sent |
//!
//! What is not sent also ends the connection (see `Shared::done`): the server at its other end may not be the one any more.

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

/// The word for what is wrong with an order, by the class of the SQL standard; `None` where it is no order's.
fn word(class: &str) -> Option<&'static str> {
    match class {
        "22" => Some("data"),
        "23" | "44" => Some("constraint"),
        "54" => Some("limit"),
        // What a trigger raises, or stumbles over.
        "P0" | "38" | "39" | "09" | "27" => Some("trigger"),
        _ => None,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        of_order(&error).unwrap_or_else(|| Self::Call(not_done(&error)))
    }
}

fn of_order(error: &Error) -> Option<Fault> {
    let state = error.code()?.code();
    let code = word(state.get(..2)?)?;
    let reason = match (code, error.as_db_error()) {
        // Its words are its owner's, and may name a shopper.
        ("trigger", Some(error)) => {
            let place = error.where_().and_then(|place| place.lines().next());
            format!(
                "a trigger of the tables refuses it ({state}, {}); its words are in the server's log",
                place.unwrap_or("no place told")
            )
        }
        _ => format!("the tables refuse it: {}", message(error)),
    };
    Some(Fault::Order { code, reason })
}

/// Before the commit: nothing was done.
pub(super) fn not_done(error: &Error) -> CallFailure {
    let Some(state) = error.code() else {
        return CallFailure::NotSent(format!("the connection failed: {}", message(error)));
    };
    let concurrency = CallFailure::Overloaded { after: None, scope: Scope::Concurrency };
    match *state {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::CONFIGURATION_LIMIT_EXCEEDED => concurrency,
        SqlState::QUERY_CANCELED | SqlState::OUT_OF_MEMORY | SqlState::INTERNAL_ERROR => {
            CallFailure::GaveUp(format!("{} ({})", message(error), state.code()))
        }
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
        _ if state.code().starts_with("40") => concurrency,
        _ => CallFailure::NotSent(format!("{} ({})", message(error), state.code())),
    }
}

/// At the commit: definite only where the server says so and still stands.
pub(super) fn at_commit(error: &Error) -> Fault {
    // What is checked only now refuses an order as it does at once.
    if let Some(of_order) = of_order(error) {
        return of_order;
    }
    match error.code() {
        Some(state)
            if state.code().starts_with("40")
                && *state != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN =>
        {
            Fault::Call(not_done(error))
        }
        _ => {
            let why = format!("the commit was not answered: {}", message(error));
            Fault::Call(CallFailure::Unknown(why))
        }
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
