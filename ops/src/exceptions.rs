//! Process exceptions: list, show, retry, discard.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use forebay_buffer::{Act, ActError, Buffer, ExceptionRow};
use forebay_processor::OrderManagement;
use http::StatusCode;
use serde::Serialize;

use crate::View;
use crate::answer::{Answer, Problem, ok};
use crate::orders::{Page, text};

/// `GET /v1/exceptions?after=&limit=`
pub(crate) async fn list<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Query(page): Query<Page>,
) -> Answer {
    let limit = page.limit();
    let rows = view.buffer.exceptions(page.after, limit).await?;
    let next = if rows.len() == limit { rows.last().map(|row| row.id) } else { None };
    ok(serde_json::json!({ "exceptions": rows, "next": next }))
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: ExceptionRow,
    /// The row's own body, or the order's where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// `GET /v1/exceptions/{id}`
pub(crate) async fn show<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Path(id): Path<u64>,
) -> Answer {
    let rows = view.buffer.exceptions(id.saturating_sub(1), 1).await?;
    let Some(row) = rows.into_iter().find(|row| row.id == id) else {
        return Err(ActError::NotFound.into());
    };
    let of = if row.has_body { Some(row.id) } else { row.order };
    let body = match of {
        Some(sequence) => text(view.buffer.body(sequence).await?),
        None => None,
    };
    ok(Shown { row, body })
}

/// `POST /v1/exceptions/{id}/retry`
pub(crate) async fn retry<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Path(id): Path<u64>,
) -> Answer {
    ok(view.buffer.act(id, Act::Retry).await?)
}

/// `POST /v1/exceptions/{id}/discard`
pub(crate) async fn discard<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Path(id): Path<u64>,
) -> Answer {
    ok(view.buffer.act(id, Act::Discard).await?)
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NotFound => Self::not_found(&error.to_string()),
            ActError::NotPossible(_) => {
                Self::new(StatusCode::CONFLICT, "not-possible", error.to_string())
            }
            ActError::Buffer(error) => error.into(),
        }
    }
}
