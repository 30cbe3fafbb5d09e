//! `forebay replay`: after the OMS was restored from a backup

use std::process::ExitCode;

use clap::Args;
use forebay_buffer::{Clock, SystemClock};
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{self, Failure};
use super::{EXIT_MET, EXIT_MISSED, EXIT_USAGE, Service, fail, print};
use crate::config::Span;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Orders settled since: so long ago ("26h", "2d"), or a time ("2026-11-27T03:00:00Z"); a little before the backup was taken
    #[arg(long, value_name = "TIME", value_parser = since_ms)]
    since: i64,
    /// Only count what the OMS lacks
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    service: Service,
}

/// A time in ms since 1970.
fn since_ms(text: &str) -> Result<i64, String> {
    if let Ok(Span(ago)) = text.parse::<Span>() {
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(SystemClock.wall_ms().saturating_sub(ago_ms));
    }
    let time = text.parse::<Timestamp>().map_err(|_| {
        "neither a duration (a whole number and s, m, h or d) nor a time (2026-11-27T03:00:00Z)"
    })?;
    Ok(time.as_millisecond())
}

/// Looks up every order settled since, and has the absent ones drained again; exit 1 where one of them could not be.
pub(crate) fn run(args: &ReplayArgs) -> ExitCode {
    match replay(args) {
        Ok(counts) => {
            say(args, &counts);
            let [_, absent, again] = counts;
            let missed = !args.dry_run && again < absent;
            ExitCode::from(if missed { EXIT_MISSED } else { EXIT_MET })
        }
        Err((code, message)) => fail(code, &message),
    }
}

/// Orders looked up, absent, and waiting again.
type Counts = [u64; 3];

const NAMES: [&str; 3] = ["looked_up", "absent", "again"];

fn replay(args: &ReplayArgs) -> Result<Counts, Failure> {
    let (mut counts, mut from) = ([0; 3], 0);
    loop {
        let path =
            format!("/v1/oms/replay?since_ms={}&from={from}&dry_run={}", args.since, args.dry_run);
        let asked = client::ask(&args.service, Method::POST, &path);
        let answer = asked.map_err(|(code, message)| {
            let [looked_up, _, again] = counts;
            let done = format!("{looked_up} looked up and {again} waiting again before that");
            (code, format!("{message}; {done}: run it again, what was done is not done twice"))
        })?;
        for (count, name) in counts.iter_mut().zip(NAMES) {
            *count += answer.get(name).and_then(Value::as_u64).unwrap_or_default();
        }
        match answer.get("next").and_then(Value::as_u64) {
            // One that does not go on would never end.
            Some(next) if next > from => from = next,
            Some(_) => return Err((EXIT_USAGE, "the service does not go on".to_owned())),
            None => return Ok(counts),
        }
    }
}

fn say(args: &ReplayArgs, counts: &Counts) {
    let [looked_up, absent, again] = counts;
    if args.service.json {
        print(&json!({ "looked_up": looked_up, "absent": absent, "again": again }).to_string());
        return;
    }
    print(&format!("{looked_up:>10}  orders settled since then looked up in the OMS"));
    print(&format!("{absent:>10}  of them are not there"));
    if !args.dry_run {
        print(&format!("{again:>10}  of these wait for the drain again"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_ago_or_a_time() {
        assert_eq!(since_ms("2026-11-27T03:00:00Z"), Ok(1_795_748_400_000));
        let now_ms = SystemClock.wall_ms();
        let day = now_ms - since_ms("1d").unwrap();
        assert!((86_400_000..86_410_000).contains(&day), "{day}");
        for wrong in ["yesterday", "3", "-1d", ""] {
            assert!(since_ms(wrong).is_err(), "{wrong}");
        }
    }
}
