//! Tells by itself what became of orders that were only taken: posts their outcomes to an address, until they are heard. What was heard
//! is not told again; what may have been (no answer came) is.
//!
//! After a restart everything is told anew, from the ledger.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::oms::Oms;
use crate::order::Told;

/// How often it is looked for outcomes.
const LOOK: Duration = Duration::from_millis(50);
/// After trouble they are told again after so long.
const AGAIN: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Outcomes in one request.
const TOGETHER: usize = 100;

pub(crate) async fn run(oms: Arc<Oms>) {
    let mut after = (0, 0);
    loop {
        if oms.tell_again() {
            after = (0, 0);
        }
        let pause = match &oms.faults().tell {
            None => LOOK,
            Some(url) => match next(&oms, url, &mut after).await {
                Ok(0) => LOOK,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(url, error, "outcomes were not heard");
                    AGAIN
                }
            },
        };
        tokio::time::sleep(pause).await;
    }
}

/// Tells the next ones; how many there were.
async fn next(oms: &Oms, url: &str, after: &mut (i64, i64)) -> Result<usize, String> {
    let told = oms.ledger.told(*after, TOGETHER).await?;
    let Some(last) = told.last() else { return Ok(0) };
    let items: Vec<_> = told.iter().map(item).collect();
    let posted = tokio::time::timeout(TIMEOUT, post(url, json!(items).to_string())).await;
    let status = posted.map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))??;
    if !(200..300).contains(&status) {
        return Err(format!("answered {status}"));
    }
    *after = (last.due_us, last.seq);
    Ok(told.len())
}

fn item(told: &Told) -> serde_json::Value {
    let Told { identity, ticket, .. } = told;
    match &told.id {
        Some(id) => {
            json!({ "identity": identity, "ticket": ticket, "outcome": "created", "id": id })
        }
        None => json!({
            "identity": identity, "ticket": ticket, "outcome": "invalid",
            "code": "LATE_REFUSAL", "reason": "this order is one that is refused later"
        }),
    }
}

async fn post(url: &str, body: String) -> Result<u16, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let authority = uri.authority().ok_or("no host in it")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((authority.host(), port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body));
    let request = request.map_err(|error| error.to_string())?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string());
        // Without it the connection has nothing to wait for, and ends.
        drop(sender);
        answer.map(|answer| answer.status().as_u16())
    };
    let (answer, _) = tokio::join!(answered, connection);
    answer
}
