//! `forebay outcomes`

use std::process::ExitCode;

use clap::Args;
use forebay_buffer::FeedCursor;
use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::client::Failure;
use super::status::plain;
use super::{EXIT_MET, Service, client, fail, print};

/// Arguments of `outcomes`.
#[derive(Debug, Args)]
pub(crate) struct OutcomesArgs {
    /// Only after this sequence, or this `next` of an answer
    #[arg(long, default_value = "0", value_name = "SEQ")]
    after: FeedCursor,
    /// At most so many [default: 100; with --follow no limit]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Wait for what comes, until it is stopped
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    service: Service,
}

/// Prints events, one a line; exit 1 if what came after is not kept any more.
pub(crate) fn run(args: &OutcomesArgs) -> ExitCode {
    match read(args) {
        Ok(()) => ExitCode::from(EXIT_MET),
        Err((code, message)) => fail(code, &message),
    }
}

fn read(args: &OutcomesArgs) -> Result<(), Failure> {
    let limit = args.limit.unwrap_or(if args.follow { usize::MAX } else { 100 });
    let wait = if args.follow { "20s" } else { "0s" };
    let (mut after, mut printed) = (args.after.to_string(), 0);
    if !args.service.json {
        print(&format!(
            "{:>10}  {:<20}  {:<11}{:<40}{:<12}DETAIL",
            "SEQUENCE", "WHEN", "KIND", "ORDER", "NUMBER"
        ));
    }
    while printed < limit {
        let page = (limit - printed).min(1_000);
        let path = format!("/v1/outcomes?after={after}&limit={page}&wait={wait}");
        let answer = client::ask(&args.service, Method::GET, &path)?;
        let events = answer.get("events").and_then(Value::as_array);
        let events = events.map(Vec::as_slice).unwrap_or_default();
        // A page may have a few more: what one record says is not torn apart.
        for event in events.iter().take(limit - printed) {
            print(&if args.service.json { event.to_string() } else { line(event) });
        }
        printed += events.len().min(limit - printed);
        after = answer.get("next").map_or(after, plain);
        if events.is_empty() && !args.follow {
            break;
        }
    }
    Ok(())
}

fn line(event: &Value) -> String {
    let field = |name: &str| event.get(name).map(plain).unwrap_or_default();
    let at = event.get("at_ms").and_then(Value::as_i64);
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let exception = |name| event.get("exception").and_then(|row| row.get(name)).map(plain);
    let detail = [
        exception("category"),
        exception("reason"),
        event.get("hold").map(plain),
        event.get("summary_id").map(plain),
    ];
    format!(
        "{:>10}  {at:<20}  {:<11}{:<40}{:<12}{}",
        field("sequence"),
        field("kind"),
        field("key"),
        field("number"),
        detail.into_iter().flatten().collect::<Vec<_>>().join(": ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "sequence": 17, "part": 0, "kind": "exception", "key": "shopify:demo:1", "number": "#1", "order": 3,
            "at_ms": 1_790_000_000_000_i64, "synthetic": false,
            "exception": { "id": 17, "category": "rejected", "reason": "no such product" },
        });
        let line = line(&event);
        assert!(line.starts_with("        17  2026-09-21T"), "{line}");
        assert!(line.ends_with("#1          rejected: no such product"), "{line}");
    }
}
