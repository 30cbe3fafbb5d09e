//! `forebay orders get`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use forebay_order::OrderKey;
use hyper::Method;

use super::status::plain;
use super::{EXIT_MET, Service, client, fail, print};

/// Arguments of `orders`.
#[derive(Debug, Args)]
pub(crate) struct OrdersArgs {
    #[command(subcommand)]
    command: OrdersCommand,
    #[command(flatten)]
    service: Service,
}

#[derive(Debug, Subcommand)]
enum OrdersCommand {
    /// Show one order by channel, source and the sender's id
    Get {
        /// Channel, as configured
        channel: String,
        /// Shop, site or tenant
        source: String,
        /// The sender's id, as text
        id: String,
        /// With the kept bytes (they hold personal data)
        #[arg(long)]
        body: bool,
    },
}

/// Prints one order; exit 1 if there is none.
pub(crate) fn run(args: &OrdersArgs) -> ExitCode {
    let OrdersCommand::Get { channel, source, id, body } = &args.command;
    let key = OrderKey::new(channel.as_str(), source.as_str(), id.as_str());
    let query = if *body { "?body=1" } else { "" };
    match client::ask(&args.service, Method::GET, &format!("/v1/orders/{}{query}", key.path())) {
        Err((code, message)) => return fail(code, &message),
        Ok(order) if args.service.json => print(&order.to_string()),
        Ok(order) => {
            for (name, value) in order.as_object().into_iter().flatten() {
                if !value.is_null() {
                    print(&format!("{name:<16}{}", plain(value)));
                }
            }
        }
    }
    ExitCode::from(EXIT_MET)
}
