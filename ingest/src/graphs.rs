//! Answers in the shape of Salesforce's own request for order-summary graphs.

use serde::{Deserialize, Serialize};

use crate::answer::{Item, ItemAnswer, Response, batch_code, json};
use crate::config::Caller;

/// What a graph calls itself; all that is read of it here.
#[derive(Deserialize)]
struct Graph {
    #[serde(rename = "orderSummaryGraphId")]
    id: Option<String>,
}

/// The graph's own id, to name it in the answer.
pub(crate) fn graph_id(item: &[u8]) -> Option<String> {
    serde_json::from_slice::<Graph>(item).ok()?.id
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GraphsOutput<'a> {
    success: bool,
    error: Option<Error<'a>>,
    order_summary_graphs_results: Vec<GraphOutput<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GraphOutput<'a> {
    order_summary_graph_id: Option<&'a str>,
    success: bool,
    error: Option<Error<'a>>,
    http_headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Error<'a> {
    error_code: String,
    message: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'static str,
    value: &'a str,
}

/// One result a graph: success where it is durable and stands, with the location of its pending order.
/// The whole is a success when every graph is; the status is 202 when any of them is durable.
pub(crate) fn respond(items: &[Item]) -> Response {
    let results: Vec<_> = items.iter().map(output).collect();
    let success = results.iter().all(|result| result.success);
    let error = (!success).then(|| Error {
        error_code: "PARTIAL_FAILURE".to_owned(),
        message: "At least one graph was not accepted; each result says which and why.",
    });
    let code = batch_code(Caller::Api, items);
    let mut response =
        json(code, &GraphsOutput { success, error, order_summary_graphs_results: results });
    let wait = items.iter().find_map(|item| item.answer.retry_seconds());
    if let Some(seconds) = wait {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

fn output(item: &Item) -> GraphOutput<'_> {
    let (success, error, location) = match &item.answer {
        ItemAnswer::Kept(kept) => (true, None, kept.location()),
        ItemAnswer::Conflict(problem) | ItemAnswer::Refused(problem) => {
            let error_code = problem.kind().word().to_ascii_uppercase().replace('-', "_");
            (false, Some(Error { error_code, message: problem.detail() }), problem.location())
        }
    };
    let http_headers =
        location.into_iter().map(|value| Header { name: "Location", value }).collect();
    GraphOutput { order_summary_graph_id: item.graph.as_deref(), success, error, http_headers }
}
