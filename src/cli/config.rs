//! `forebay config check`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use forebay_processor::oms::http::Http;
use serde_json::json;

use super::{EXIT_MET, EXIT_USAGE, fail, print};
use crate::config::{self, Config, Flags, OmsKind};
use crate::wiring;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what a configuration promises, or everything that is wrong with it
    Check {
        #[command(flatten)]
        flags: Flags,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Exit 0 if it can run, 2 if not.
pub(crate) fn run(args: &ConfigArgs) -> ExitCode {
    let ConfigCommand::Check { flags, json } = &args.command;
    let config = match config::load(flags) {
        Ok(config) => config,
        Err(error) if *json => {
            print(&json!({ "ok": false, "faults": [error.to_string()] }).to_string());
            return ExitCode::from(EXIT_USAGE);
        }
        Err(error) => return fail(EXIT_USAGE, &error.to_string()),
    };
    match config::check(&config).and_then(|checked| opens(&config).map(|()| checked)) {
        Ok(checked) if *json => {
            let document = json!({ "ok": true, "promises": checked.promises, "warnings": checked.warnings, "config": config });
            print(&document.to_string());
        }
        Ok(checked) => {
            checked.promises.iter().for_each(|promise| print(&format!("promise  {promise}")));
            checked.warnings.iter().for_each(|warning| print(&format!("warning  {warning}")));
            for (name, channel) in config.channels() {
                print(&format!("channel  {name} ({}, {:?})", channel.format, channel.caller));
            }
            for (name, target) in &config.targets {
                let url = target.url.as_deref().unwrap_or_default();
                let test = if target.test { ", test" } else { "" };
                print(&format!("target   {name} ({url}{test})"));
            }
            for (name, webhook) in &config.webhooks {
                let kinds: Vec<_> =
                    webhook.options(name).kinds.iter().map(|kind| kind.word()).collect();
                print(&format!("webhook  {name} ({})", kinds.join(", ")));
            }
        }
        Err(faults) if *json => {
            print(&json!({ "ok": false, "faults": faults }).to_string());
            return ExitCode::from(EXIT_USAGE);
        }
        Err(faults) => return fail(EXIT_USAGE, &faults.join("\nforebay: ")),
    }
    ExitCode::from(EXIT_MET)
}

/// Everything that cannot be read of what describes each OMS over HTTP: templates of bodies and paths, and certificates.
fn opens(config: &Config) -> Result<(), Vec<String>> {
    let fault = |config: &Config| {
        let options = wiring::http(config);
        options.and_then(|options| Http::open(options).map_err(|error| error.to_string())).err()
    };
    let mut faults = Vec::new();
    if config.oms.kind == OmsKind::Http {
        faults.extend(fault(config));
    }
    for name in config.targets.keys() {
        let fault = config.aimed_at(name).map_or_else(Some, |aimed| fault(&aimed));
        let fault = fault.filter(|fault| !faults.contains(fault));
        faults.extend(fault.map(|fault| format!("targets.{name}: {fault}")));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
