//! `forebay oms`: an order management system (OMS) to test against, and a test of the one that is configured.

mod claim;
mod serve;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Arguments of `oms`.
#[derive(Debug, Args)]
pub(crate) struct OmsArgs {
    #[command(subcommand)]
    command: OmsCommand,
}

#[derive(Debug, Subcommand)]
enum OmsCommand {
    /// Be an OMS over HTTP with faults on demand, and judge what comes (docs/reference-oms.md)
    Serve(serve::ServeArgs),
    /// Say whose orders are drained to the OMS of a running service, or take it over from another fleet
    Claim(claim::ClaimArgs),
    /// Try the configured OMS over HTTP, a sandbox: create, repeat, cut the line, look up, approach its limit
    Verify(verify::VerifyArgs),
}

/// Its exit status.
pub(crate) fn run(args: &OmsArgs) -> ExitCode {
    match &args.command {
        OmsCommand::Serve(args) => serve::run(args),
        OmsCommand::Claim(args) => claim::run(args),
        OmsCommand::Verify(args) => verify::run(args),
    }
}
