//! The OMS that is reached over HTTP: asked for an order that nobody has.

use forebay_processor::oms::http::Http;
use forebay_processor::{CallFailure, OrderManagement};
use tokio::runtime::Builder;

use super::super::check::Check;
use crate::config::Config;
use crate::wiring;

const NAME: &str = "oms";
/// Nobody's order; a channel's name is never empty.
const NOBODY: &str = ":doctor:nobody";

/// Whether it answers, and takes us for whom we are.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let opened = wiring::http(config).and_then(|options| {
        let secure = options.url.starts_with("https://");
        Ok((Http::open(options).map_err(|error| error.to_string())?, secure))
    });
    let (oms, secure) = match opened {
        Ok(opened) => opened,
        Err(error) => return vec![Check::fail(NAME, error, "mend [oms]")],
    };
    let guarantee = oms.guarantee().words();
    if !oms.can_find() {
        let finding =
            format!("{guarantee}; it cannot be asked (oms.find), so nothing was sent to it");
        return vec![Check::ok(NAME, finding)];
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![Check::warn(NAME, error.to_string(), "free threads and try again")];
        }
    };
    let answer = runtime.block_on(oms.find(&[NOBODY.to_owned()]));
    vec![match answer {
        Ok(_) => {
            let way = if secure { "over TLS" } else { "in the clear" };
            Check::ok(NAME, format!("{guarantee}; a look-up was answered, {way}"))
        }
        Err(failure @ CallFailure::Unauthenticated) => Check::fail(
            NAME,
            failure.to_string(),
            "renew the secrets of [oms.auth], or what they may do",
        ),
        Err(failure) => {
            let advice =
                "orders are taken in all the same, and wait; mend oms.url, [oms.find] or the OMS";
            Check::warn(NAME, failure.to_string(), advice)
        }
    }]
}
