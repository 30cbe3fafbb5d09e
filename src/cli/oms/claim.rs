//! `forebay oms claim`: whose orders are drained to the OMS.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::cli::status::plain;
use crate::cli::{EXIT_MET, EXIT_MISSED, Service, client, fail, print};

/// Arguments of `oms claim`.
#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// Take it over from another fleet, which you have stopped for good; the drain begins a minute later, over HTTP three
    #[arg(long)]
    take: bool,
    #[command(flatten)]
    service: Service,
}

/// Asks the running service; exit 1 where the OMS is another fleet's.
pub(crate) fn run(args: &ClaimArgs) -> ExitCode {
    let path = format!("/v1/oms/claim?take={}", args.take);
    let claim = match client::ask(&args.service, Method::POST, &path) {
        Ok(claim) => claim,
        Err((code, message)) => return fail(code, &message),
    };
    if args.service.json {
        print(&claim.to_string());
    } else {
        for (name, value) in claim.as_object().into_iter().flatten() {
            print(&format!("{name:<16}{}", plain(value)));
        }
    }
    let ours = claim.get("claim").and_then(Value::as_str) == Some("ours");
    ExitCode::from(if ours { EXIT_MET } else { EXIT_MISSED })
}
