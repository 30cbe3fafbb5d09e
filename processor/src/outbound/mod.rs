//! Calls of ours to others over HTTP: whom we trust, how long we wait, and whether anything of a call left.
//!
//! It knows nothing of orders. The OMS over HTTP is built on it, and so are the webhooks of the operator's room.

mod client;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Uri};

pub use client::{Answer, Client, Deadlines, Failed, Told};
pub use tls::{TlsError, client as tls_client};

/// When to come back (RFC 9110, section 10.2.3): seconds, or a date, by the clock of who says it.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// Whether others could read what goes to this address: `http://`, and the host is neither `localhost` nor an address of the loopback.
pub fn in_the_clear(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let here = host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() == Some("http") && !here
}

/// Whether it is an address of HTTP: a scheme and a host, and no user or token, which would be shown.
pub fn is_address(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    scheme && uri.host().is_some_and(|host| !host.is_empty()) && !url.contains('@')
}

/// Whether a header can have this name.
pub fn is_header(name: &str) -> bool {
    name.parse::<HeaderName>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back_is_read_in_seconds_and_as_a_date() {
        let headers = |fields: &[(&'static str, &str)]| -> HeaderMap {
            let field = |(name, value): &(&'static str, &str)| {
                (name.parse().unwrap(), value.parse().unwrap())
            };
            fields.iter().map(field).collect()
        };
        let told = |text| retry_after(&headers(&[("retry-after", text)]));
        assert_eq!(told("120"), Some(Duration::from_secs(120)));
        assert_eq!(told("soon"), None);
        let date = |now| {
            let at = ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
            retry_after(&headers(&[at, ("date", now)]))
        };
        assert_eq!(date("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(date("Wed, 21 Oct 2015 07:29:00 GMT"), Some(Duration::ZERO));
        assert_eq!(told("Wed, 21 Oct 2015 07:28:00 GMT"), None, "a date of whose clock?");
    }
}
