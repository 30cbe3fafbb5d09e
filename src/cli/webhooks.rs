//! `forebay webhooks test`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use forebay_buffer::SystemClock;
use forebay_ops::webhooks;
use serde_json::json;

use super::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, fail, print};
use crate::config::{self, Flags};

/// What a ping's store is called: it tells of none.
const NO_STORE: &str = "00000000-0000-0000-0000-000000000000";

/// Arguments of `webhooks`.
#[derive(Debug, Args)]
pub(crate) struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// Send a signed event of type forebay.ping, and say what came back; no service need run
    Test {
        /// Its name in the configuration, as in [webhooks.NAME]
        name: String,
        #[command(flatten)]
        flags: Flags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Exit 0 if it was taken, 1 if not, 2 if it cannot be sent as it is configured.
pub(crate) fn run(args: &WebhooksArgs) -> ExitCode {
    let WebhooksCommand::Test { name, flags, json } = &args.command;
    let config = match config::load(flags) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    let Some(webhook) = config.webhooks.get(name) else {
        let known: Vec<_> = config.webhooks.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return fail(
            EXIT_USAGE,
            &format!("webhooks.{name}: is not configured; configured: {known} (--config FILE)"),
        );
    };
    if let Err(faults) = config::check(&config) {
        return fail(EXIT_USAGE, &faults.join("\nforebay: "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_MISSED, &error.to_string()),
    };
    let answer = runtime.block_on(webhooks::ping(&webhook.options(name), NO_STORE, &SystemClock));
    match answer {
        Ok(status) if *json => print(&json!({ "ok": true, "status": status.as_u16() }).to_string()),
        Ok(status) => print(&format!("taken: {name} answered {status}")),
        Err(why) if *json => {
            print(&json!({ "ok": false, "error": why }).to_string());
            return ExitCode::from(EXIT_MISSED);
        }
        Err(why) => return fail(EXIT_MISSED, &format!("not taken by {name}: {why}")),
    }
    ExitCode::from(EXIT_MET)
}
