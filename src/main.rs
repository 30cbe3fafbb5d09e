//! The `forebay` binary: a table of contents. Configuration before ports, a drain with a deadline at the end.

mod cli;
mod config;
mod control;
mod demo;
mod limits;
mod serve;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Serve(args) => serve::run(&args),
        cli::Command::Migrate(args) => serve::migrate(&args),
        cli::Command::Demo(args) => demo::run(&args),
        cli::Command::Config(args) => cli::config::run(&args),
        cli::Command::Buffer(args) => cli::buffer::run(&args),
        cli::Command::Doctor(args) => cli::doctor::run(&args),
        cli::Command::Status(args) => cli::status::run(&args),
        cli::Command::Orders(args) => cli::orders::run(&args),
        cli::Command::Outcomes(args) => cli::outcomes::run(&args),
        cli::Command::Replay(args) => cli::replay::run(&args),
        cli::Command::Exceptions(args) => cli::exceptions::run(&args),
        cli::Command::Oms(args) => cli::oms::run(&args),
        cli::Command::Webhooks(args) => cli::webhooks::run(&args),
    }
}
