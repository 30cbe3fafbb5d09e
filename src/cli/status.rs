//! `forebay status`

use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use forebay_processor::Guarantee;

use super::{EXIT_MET, Service, client, fail, print};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    service: Service,
}

/// Prints how the service stands.
pub(crate) fn run(args: &StatusArgs) -> ExitCode {
    match client::ask(&args.service, Method::GET, "/v1/status") {
        Err((code, message)) => return fail(code, &message),
        Ok(status) if args.service.json => print(&status.to_string()),
        Ok(status) => table(&status).iter().for_each(|line| print(line)),
    }
    ExitCode::from(EXIT_MET)
}

fn table(status: &Value) -> Vec<String> {
    let at = |pointer: &str| status.pointer(pointer).cloned().unwrap_or(Value::Null);
    let counts = |pointer: &str| -> String {
        let Some(counts) = status.pointer(pointer).and_then(Value::as_object) else {
            return "-".to_owned();
        };
        let words: Vec<_> = counts.iter().map(|(word, n)| format!("{word} {}", plain(n))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    };
    let ours = at("/pace/pending").as_u64().unwrap_or(0);
    let pending = at("/buffer/live/pending").as_u64().unwrap_or(ours);
    let here = match at("/buffer/fleet") {
        Value::Null => String::new(),
        _ => format!(" ({ours} here)"),
    };
    let pace = at("/pace/drained_per_s").as_f64().unwrap_or(0.0);
    let eta = match (ours, pace) {
        (0, _) => "nothing waits".to_owned(),
        (_, pace) if pace < 0.1 => "never at this rate".to_owned(),
        #[expect(clippy::cast_precision_loss, reason = "an estimate in seconds")]
        (pending, pace) => format!("drained in about {:.0} s", pending as f64 / pace),
    };
    let oldest = at("/buffer/oldest_pending_ms").as_i64();
    let oldest = oldest.map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
    let ceiling = match at("/drain/ceiling_per_s") {
        Value::Null => "no ceiling".to_owned(),
        rate => format!("ceiling {} orders/s", plain(&rate)),
    };
    let mut lines = Vec::new();
    // A control build breaks promises; whoever asks must see it first.
    if at("/version").as_str().is_some_and(|version| version.contains("CONTROL")) {
        lines.push(format!("version     {}", plain(&at("/version"))));
    }
    lines.extend([
        format!("waiting     {pending}{here} pending, oldest {oldest}; {eta}"),
        format!("orders      {}", counts("/buffer/live")),
        format!("ended       {}", counts("/buffer/ended")),
        format!("exceptions  {}", counts("/buffer/exceptions")),
        format!("money       {}", counts("/buffer/money_waiting")),
        format!(
            "drain       {} at {pace:.1} orders/s, {ceiling}, limited by: {}",
            plain(&at("/drain/mode")),
            plain(&at("/drain/limiter"))
        ),
    ]);
    if at("/drain/why").is_string() {
        lines.push(format!("braked      {}", plain(&at("/drain/why"))));
    }
    if let Some(most) = at("/drain/outstanding_max").as_u64() {
        lines.push(format!(
            "outstanding {} of at most {most} orders with the OMS under a ticket",
            plain(&at("/drain/outstanding"))
        ));
    }
    lines.extend([format!(
        "oms         {} ({})",
        plain(&at("/oms/kind")),
        plain(&at("/oms/guarantee"))
    )]);
    lines.extend(match at("/buffer/fleet") {
        Value::Null => on_disk(&at),
        _ => on_nats(&at),
    });
    if at("/buffer/migration/done") == Value::Bool(false) {
        let trouble = at("/buffer/migration/trouble");
        lines.push(format!(
            "moving      from {} to {}: {} of about {} handed over{}",
            plain(&at("/buffer/migration/from")),
            plain(&at("/buffer/migration/to")),
            plain(&at("/buffer/migration/handed_over")),
            plain(&at("/buffer/migration/of")),
            trouble.as_str().map_or(String::new(), |trouble| format!("; {trouble}")),
        ));
    }
    lines.extend(at("/webhooks").as_array().into_iter().flatten().map(webhook));
    lines.extend(look_first(&at("/buffer/look_first_until_ms"), &at("/oms/guarantee")));
    for note in at("/buffer/recovery").as_array().into_iter().flatten() {
        lines.push(format!("recovery    {}", plain(note)));
    }
    lines
}

/// Where orders are kept: on this machine's disk.
fn on_disk(at: &impl Fn(&str) -> Value) -> Vec<String> {
    let mib = |pointer| at(pointer).as_u64().unwrap_or(0) >> 20;
    vec![
        format!(
            "disk        {} of {} MiB in {} segments, a receipt means {}, {} writes",
            mib("/buffer/disk_bytes"),
            mib("/buffer/disk_bytes_max"),
            plain(&at("/buffer/segments")),
            plain(&at("/buffer/durability")),
            plain(&at("/buffer/write_mode"))
        ),
        format!(
            "outcomes    {} in {} runs, {} MiB of disk, {} MiB of memory{}",
            plain(&at("/buffer/outcomes/outcomes")),
            plain(&at("/buffer/outcomes/runs")),
            mib("/buffer/outcomes/disk_bytes"),
            mib("/buffer/outcomes/memory_bytes"),
            match at("/buffer/outcomes/damaged_blocks").as_u64().unwrap_or(0) {
                0 => String::new(),
                blocks => format!("; {blocks} blocks are damaged: see `forebay buffer check`"),
            }
        ),
    ]
}

/// Where orders are kept: on NATS servers, by several processes.
fn on_nats(at: &impl Fn(&str) -> Value) -> Vec<String> {
    let number = |pointer: &str| at(pointer).as_u64().unwrap_or(0);
    let limit = match number("/buffer/disk_bytes_max") {
        0 => String::new(),
        bytes => format!(" of {} MiB", bytes >> 20),
    };
    let hours = number("/buffer/fleet/outcome_ttl_s") as f64 / 3_600.0;
    let mut lines = vec![
        format!(
            "stream      {} MiB{limit} on each server, a receipt means {}; ended orders are known for {hours:.1} h",
            number("/buffer/disk_bytes") >> 20,
            plain(&at("/buffer/durability")),
        ),
        format!(
            "fleet       {} processes drain; this one owns {} of {} partitions and has {} of the ceiling",
            number("/buffer/fleet/nodes"),
            number("/buffer/fleet/owned"),
            number("/buffer/fleet/partitions"),
            plain(&at("/drain/share")),
        ),
    ];
    if let Some(differs) = at("/buffer/fleet/differs").as_str() {
        lines.push(format!("differs     {}", plain(&differs.into())));
    }
    let silent = number("/buffer/fleet/silent");
    if silent > 0 {
        lines.push(format!(
            "silent      {silent} partitions have no owner that answers: their orders are not counted above, and not drained now"
        ));
    }
    lines
}

/// How one webhook stands.
fn webhook(status: &Value) -> String {
    let at = |name: &str| status.get(name).cloned().unwrap_or(Value::Null);
    let since = |name: &str| {
        let time = Timestamp::from_millisecond(at(name).as_i64()?).ok()?;
        Some(time.strftime("%F %H:%M:%S UTC").to_string())
    };
    let mut line = format!("webhook     {}: {}", plain(&at("name")), plain(&at("state")));
    if let Some(since) = since("failing_since_ms") {
        line.push_str(&format!(" since {since}, {}", plain(&at("error"))));
    }
    line.push_str(&match since("waiting_since_ms") {
        Some(since) => format!("; not told of what happened since {since}"),
        None => "; up to date".to_owned(),
    });
    line.push_str(&format!(", after {}", plain(&at("after"))));
    if at("missed").as_u64().is_some_and(|missed| missed > 0) {
        line.push_str("; some events were given up before it had been told them");
    }
    line
}

/// Until when orders are looked up before they are first sent, and what that costs.
fn look_first(until_ms: &Value, guarantee: &Value) -> Option<String> {
    let until = Timestamp::from_millisecond(until_ms.as_i64()?).ok()?;
    let until = until.strftime("%F %H:%M UTC");
    let cost = if guarantee.as_str() == Some(Guarantee::UniqueId.words()) {
        "costs nothing, for this OMS refuses a second create"
    } else {
        "costs one look-up in the OMS for each batch"
    };
    Some(format!(
        "look first  until {until}: acknowledged orders may be forgotten (damage, or a lost outcome index), so none that \
         comes is taken for new; {cost}"
    ))
}

/// A JSON scalar without quotes. Control characters but line ends and tabs are escaped: a number or a body
/// is the sender's, and must not tell the operator's terminal what to do.
pub(crate) fn plain(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_up_first_is_said_with_its_end_and_its_price() {
        assert_eq!(look_first(&Value::Null, &Value::Null), None);
        let until = Value::from(1_790_000_000_000_i64);
        let said = |guarantee: Guarantee| look_first(&until, &guarantee.words().into()).unwrap();
        let looked_up = said(Guarantee::LookedUp);
        assert!(looked_up.contains("until 2026-09-21 14:13 UTC"), "{looked_up}");
        assert!(looked_up.contains("one look-up"), "{looked_up}");
        assert!(said(Guarantee::UniqueId).contains("costs nothing"));
    }

    #[test]
    fn a_fleet_is_shown_as_one_and_a_disk_as_a_disk() {
        let mut status = serde_json::json!({
            "buffer": { "live": { "pending": 70 }, "disk_bytes": 3 << 20, "durability": "quorum(2 of 3, synced)",
                "fleet": { "partitions": 16, "owned": 8, "silent": 2, "nodes": 2, "outcome_ttl_s": 86_400 } },
            "pace": { "pending": 30, "drained_per_s": 10.0 }, "drain": { "share": 0.5 },
        });
        let said = table(&status).join("\n");
        for words in [
            "70 (30 here) pending",
            "drained in about 3 s",
            "3 MiB on each server, a receipt means quorum(2 of 3, synced); ended orders are known for 24.0 h",
            "2 processes drain; this one owns 8 of 16 partitions and has 0.5 of the ceiling",
            "2 partitions have no owner",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("differs"), "{said}");
        status["buffer"]["fleet"]["differs"] = "drain.ceiling_per_s is 1 in a and 2 in b".into();
        let said = table(&status).join("\n");
        assert!(said.contains("differs     drain.ceiling_per_s is 1 in a and 2 in b"), "{said}");
        status["buffer"]["fleet"] = Value::Null;
        let said = table(&status).join("\n");
        assert!(said.contains("segments") && !said.contains("fleet"), "{said}");
    }

    #[test]
    fn why_the_drain_has_stopped_by_itself_is_said_while_it_has() {
        let mut status = serde_json::json!({ "drain": { "limiter": "auth", "why": null } });
        assert!(!table(&status).join("\n").contains("braked"));
        status["drain"]["why"] = "renew the credentials".into();
        let said = table(&status).join("\n");
        assert!(said.contains("limited by: auth"), "{said}");
        assert!(said.contains("braked      renew the credentials"), "{said}");
    }

    #[test]
    fn a_webhook_says_since_when_and_why_it_is_behind() {
        let mut status = serde_json::json!({
            "name": "mail", "state": "ok", "after": 17, "error": null, "missed": 0,
            "failing_since_ms": null, "waiting_since_ms": null,
        });
        assert_eq!(webhook(&status), "webhook     mail: ok; up to date, after 17");
        status["state"] = "failing".into();
        status["error"] = "it answered 503 Service Unavailable".into();
        status["failing_since_ms"] = 1_790_000_000_000_i64.into();
        status["waiting_since_ms"] = 1_790_000_000_000_i64.into();
        status["missed"] = 1.into();
        assert_eq!(
            webhook(&status),
            "webhook     mail: failing since 2026-09-21 14:13:20 UTC, it answered 503 Service Unavailable; not told of what \
             happened since 2026-09-21 14:13:20 UTC, after 17; some events were given up before it had been told them"
        );
    }

    #[test]
    fn a_senders_text_does_not_command_the_terminal() {
        let value = Value::from("#1\u{1b}]0;x\u{7}\u{9b}2J\r\n\té");
        assert_eq!(plain(&value), "#1\\u{1b}]0;x\\u{7}\\u{9b}2J\\r\n\té");
        assert_eq!(plain(&Value::from(7)), "7");
    }
}
