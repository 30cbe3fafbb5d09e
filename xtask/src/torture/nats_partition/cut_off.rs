//! What a process of ours that reaches no server tells others: by its readiness, and those who send it an order.

use std::time::Duration;

use forebay_loadtest::Target;

use super::super::probe::{self, Reply};
use super::super::scene::Scene;
use crate::failure::Result;
use crate::time::Stopwatch;

/// How long readiness may take to turn red: the store is looked at each second, and no answer is believed in after two.
const RED_LIMIT: Duration = Duration::from_secs(8);
/// How long it may take to turn green when the servers are reached again.
const GREEN_LIMIT: Duration = Duration::from_secs(10);
/// How long a sender may wait for an answer.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);
/// And whoever asks for readiness.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What the report calls a sender's answer: that it is unknown, success, anything else or none.
pub(super) const UNKNOWN: &str = "unknown_said";
pub(super) const ACCEPTED: &str = "accepted_cut_off";
pub(super) const UNCLEAR: &str = "unclear_said";
/// How long readiness took.
const TO_RED: &str = "longest_to_red_s";
const TO_GREEN: &str = "longest_to_green_s";

/// Enters what one says that was cut off when `watch` began; whether its readiness turns red.
pub(super) fn says_so(scene: &mut Scene<'_>, target: Target, watch: Stopwatch) -> Result<bool> {
    let mut red = false;
    let reply = scene.probe_at(target.orders, REFUSAL_LIMIT, |scene| {
        red = scene.until(RED_LIMIT, |_| Ok(!is_ready(target)))?;
        scene.tally.peak(TO_RED, watch.elapsed().as_secs_f64());
        Ok(())
    })?;
    scene.tally.count(meaning(reply.as_ref()), 1);
    Ok(red)
}

/// Waits until one that reaches the servers again is ready; whether it is.
pub(super) fn is_back(scene: &mut Scene<'_>, target: Target) -> Result<bool> {
    let watch = Stopwatch::start();
    let green = scene.until(GREEN_LIMIT, |_| Ok(is_ready(target)))?;
    scene.tally.peak(TO_GREEN, watch.elapsed().as_secs_f64());
    Ok(green)
}

fn is_ready(target: Target) -> bool {
    probe::get(target.ops, "/readyz", ANSWER_LIMIT).is_ok_and(|reply| reply.status == 200)
}

/// What an answer tells its sender.
fn meaning(reply: Option<&Reply>) -> &'static str {
    match reply {
        Some(reply) if reply.is_durable() => ACCEPTED,
        Some(reply)
            if reply.is_refusal() && reply.problem().as_deref() == Some("unknown-outcome") =>
        {
            UNKNOWN
        }
        _ => UNCLEAR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_that_kind_says_that_it_is_unknown() {
        let problem = |word: &str, detail: &str| {
            format!(r#"{{"type":"https://forebay.dev/problems/{word}","detail":"{detail}"}}"#)
        };
        let unknown = problem("unknown-outcome", "Whether the order is durable is unknown.");
        let kept_nothing =
            problem("overloaded", "Nothing was kept; send the same again after Retry-After.");
        let reply = |status, body: &str| {
            let retry_after = (status == 503).then_some(1);
            Reply { status, retry_after, body: body.to_owned() }
        };
        assert_eq!(meaning(Some(&reply(503, &unknown))), UNKNOWN);
        assert_eq!(meaning(Some(&reply(503, &kept_nothing))), UNCLEAR, "it may have been kept");
        assert_eq!(meaning(Some(&reply(503, "busy"))), UNCLEAR);
        assert_eq!(meaning(Some(&reply(500, &unknown))), UNCLEAR);
        assert_eq!(meaning(Some(&reply(202, &unknown))), ACCEPTED);
        assert_eq!(meaning(None), UNCLEAR);
    }
}
