//! `forebay exceptions list|show|retry|discard`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Failure;
use super::status::plain;
use super::{EXIT_MET, EXIT_USAGE, Service, client, fail, print};

/// Arguments of `exceptions`.
#[derive(Debug, Args)]
pub(crate) struct ExceptionsArgs {
    #[command(subcommand)]
    command: ExceptionsCommand,
    #[command(flatten)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum ExceptionsCommand {
    /// List open exceptions, oldest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only after this id
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Show one, with its bytes (they hold personal data)
    Show {
        /// Its id
        id: u64,
    },
    /// Give its order a fresh start
    Retry {
        /// Its id
        id: u64,
    },
    /// Close it for good; an order that waits in it is never created
    Discard {
        /// Its id
        id: u64,
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
}

/// Runs one of the verbs; exit 1 if the exception is not open.
pub(crate) fn run(args: &ExceptionsArgs) -> ExitCode {
    let service = &args.service;
    let answer = match &args.command {
        ExceptionsCommand::List { limit, after } => list(service, *after, *limit),
        ExceptionsCommand::Show { id } => {
            client::ask(service, Method::GET, &format!("/v1/exceptions/{id}"))
        }
        ExceptionsCommand::Retry { id } => {
            client::ask(service, Method::POST, &format!("/v1/exceptions/{id}/retry"))
        }
        ExceptionsCommand::Discard { id, yes: false } => {
            let message = format!("discarding exception {id} cannot be undone; say --yes to do it");
            return fail(EXIT_USAGE, &message);
        }
        ExceptionsCommand::Discard { id, yes: true } => {
            client::ask(service, Method::POST, &format!("/v1/exceptions/{id}/discard"))
        }
    };
    match answer {
        Err((code, message)) => return fail(code, &message),
        Ok(value) if service.json => print(&value.to_string()),
        Ok(value) => match value.get("exceptions").and_then(Value::as_array) {
            Some(rows) => table(rows).iter().for_each(|line| print(line)),
            None => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    print(&format!("{name:<16}{}", plain(value)));
                }
            }
        },
    }
    ExitCode::from(EXIT_MET)
}

/// Pages through the service's list until `limit` rows.
fn list(service: &Service, mut after: u64, limit: usize) -> Result<Value, Failure> {
    let mut rows = Vec::new();
    while rows.len() < limit {
        let page = (limit - rows.len()).min(1_000);
        let path = format!("/v1/exceptions?after={after}&limit={page}");
        let mut answer = client::ask(service, Method::GET, &path)?;
        let Some(Value::Array(more)) = answer.get_mut("exceptions").map(Value::take) else { break };
        rows.extend(more);
        match answer.get("next").and_then(Value::as_u64) {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(json!({ "exceptions": rows }))
}

fn table(rows: &[Value]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no open exceptions".to_owned()];
    }
    let field = |row: &Value, name: &str| row.get(name).map(plain).unwrap_or_default();
    let mut lines = vec![format!(
        "{:>8}  {:<22}{:<6}{:<12}{:<40}{}",
        "ID", "CATEGORY", "SEV", "STATE", "ORDER", "REASON"
    )];
    lines.extend(rows.iter().map(|row| {
        format!(
            "{:>8}  {:<22}{:<6}{:<12}{:<40}{}",
            field(row, "id"),
            field(row, "category"),
            field(row, "severity"),
            field(row, "state"),
            field(row, "key"),
            field(row, "reason")
        )
    }));
    lines
}
