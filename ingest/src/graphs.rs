//! Answers in the shape of Salesforce's own request for order-summary graphs.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::{ItemAnswer, Response, batch_code, json};
use crate::config::Caller;

/// A request, as far as it is read here: the graphs, not looked into.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "orderSummaryGraphs", borrow)]
    graphs: Vec<&'a RawValue>,
}

/// What a graph calls itself.
#[derive(Deserialize)]
struct Graph {
    #[serde(rename = "orderSummaryGraphId")]
    id: String,
}

/// What each graph of a request calls itself, to name it in the answer; nothing where the body is no such request.
pub(crate) fn ids(body: &[u8]) -> Vec<Option<String>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let request = serde_json::from_slice(body).unwrap_or(Request { graphs: Vec::new() });
    let id = |graph: &&RawValue| serde_json::from_str::<Graph>(graph.get()).ok().map(|g| g.id);
    request.graphs.iter().map(id).collect()
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
pub(crate) fn respond(items: &[ItemAnswer], ids: &[Option<String>]) -> Response {
    // Ids of a request that was not taken apart graph by graph belong to none of its answers.
    let ids = if ids.len() == items.len() { ids } else { &[] };
    let ids = ids.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    let results: Vec<_> = items.iter().zip(ids).map(|(item, id)| output(item, id)).collect();
    let success = results.iter().all(|result| result.success);
    let error = (!success).then(|| Error {
        error_code: "PARTIAL_FAILURE".to_owned(),
        message: "At least one graph was not accepted; each result says which and why.",
    });
    let code = batch_code(Caller::Api, items);
    let mut response =
        json(code, &GraphsOutput { success, error, order_summary_graphs_results: results });
    let wait = items.iter().find_map(ItemAnswer::retry_seconds);
    if let Some(seconds) = wait {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

fn output<'a>(item: &'a ItemAnswer, id: Option<&'a str>) -> GraphOutput<'a> {
    let (success, error, location) = match item {
        ItemAnswer::Kept(kept) => (true, None, kept.location()),
        ItemAnswer::Conflict(problem) | ItemAnswer::Refused(problem) => {
            let error_code = problem.kind().word().to_ascii_uppercase().replace('-', "_");
            (false, Some(Error { error_code, message: problem.detail() }), problem.location())
        }
    };
    let http_headers =
        location.into_iter().map(|value| Header { name: "Location", value }).collect();
    GraphOutput { order_summary_graph_id: id, success, error, http_headers }
}
