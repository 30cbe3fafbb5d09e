//! The hello server by another load, wrk, as a second opinion on ours.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::load::Orders;
use super::service::Service;
use crate::failure::{Failure, Result, While as _};

/// Sends the same order each time, which hello does not mind.
const SCRIPT: &str = "\
local file = io.open('body', 'rb')
wrk.method = 'POST'
wrk.headers['Content-Type'] = 'application/json'
wrk.body = file:read('*a')
file:close()
";

/// Requests a second by wrk from one thread; `None` where it is not installed.
pub(super) fn per_second(
    dir: &Path,
    hello: &Service,
    connections: usize,
    lasting: Duration,
) -> Result<Option<f64>> {
    let mut request = Orders::single()?;
    let request = request.next();
    let body = memchr::memmem::find(request, b"\r\n\r\n").and_then(|at| request.get(at + 4..));
    fs::write(dir.join("body"), body.unwrap_or_default()).when("wrk's body")?;
    fs::write(dir.join("post.lua"), SCRIPT).when("wrk's script")?;
    let output = Command::new("wrk")
        .args(["--threads", "1", "--script", "post.lua"])
        .arg(format!("--connections={connections}"))
        .arg(format!("--duration={}s", lasting.as_secs().max(1)))
        .arg(format!("http://{}{}", hello.orders, Orders::path()))
        .current_dir(dir)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::broken("running wrk", error)),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = figure(&text);
    figure.map(Some).ok_or_else(|| Failure::Broken(format!("wrk said: {text}")))
}

/// The rate, unless there were answers other than 2xx.
fn figure(text: &str) -> Option<f64> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_only_if_all_went_well() {
        let text =
            "  357000 requests in 3.00s, 30MB read\nRequests/sec: 118955.50\nTransfer/sec: 9MB\n";
        assert_eq!(figure(text), Some(118_955.5));
        assert_eq!(figure(&format!("  Non-2xx or 3xx responses: 7\n{text}")), None);
        assert_eq!(figure("unable to connect"), None);
    }
}
