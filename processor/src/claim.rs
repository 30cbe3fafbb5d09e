//! One OMS, one fleet: two that drain to the same one would each keep to the whole ceiling.
//!
//! A fleet is all processes that drain one store; its name is the store's. The OMS keeps the name of the one that drains to it
//! ([`OrderManagement::claim`]), and nothing is granted here but for a while after the OMS said that it is ours: longer than the next
//! question takes, and shorter than another fleet waits that takes it over. So a process that was cut off or stopped stops by itself.
//!
//! An operator's word is needed to take it over (`forebay oms claim --take`): the other fleet may have orders that wait.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Clock;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::governor::Governor;
use crate::oms::{Claim, OrderManagement};

/// After a question that failed it is asked again not later than this,
const AGAIN: Duration = Duration::from_secs(10);
/// and each answer is waited for so long.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// One taken over earlier than that is nobody else's any more; the two clocks may differ by minutes.
const TAKEN_LATELY: Duration = Duration::from_secs(600);

/// Asks the OMS whose it is, until the stop.
pub(crate) async fn keep<O: OrderManagement>(
    oms: Arc<O>,
    fleet: String,
    governor: Governor,
    clock: Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) {
    // The takeover that made it ours, and from when on it may be drained to.
    let mut ours: Option<(Option<i64>, Duration)> = None;
    let pace = oms.claim_pace();
    let ask = async {
        loop {
            let asked = clock.elapsed();
            let mut next = pace.ask;
            match timeout(ASK_TIMEOUT, oms.claim(&fleet, false)).await {
                Ok(Ok(Claim::Untold)) => return governor.claimed_for_ever(),
                Ok(Ok(Claim::Ours { taken_ms })) => {
                    let age_ms = taken_ms.map(|taken| clock.wall_ms().abs_diff(taken));
                    let lately =
                        age_ms.is_some_and(|age| u128::from(age) < TAKEN_LATELY.as_millis());
                    let wait = if lately { pace.take_over } else { Duration::ZERO };
                    let from = match ours {
                        Some((of, from)) if of == taken_ms => from,
                        _ => asked + wait,
                    };
                    ours = Some((taken_ms, from));
                    if asked >= from {
                        governor.claimed_until(asked + pace.good_for);
                    } else {
                        let left = from.saturating_sub(asked).as_secs();
                        governor.unclaimed(format!(
                            "this fleet's claim on the OMS is new, and another one may still be stopping; {left} s are left"
                        ));
                    }
                }
                Ok(Ok(Claim::Theirs { fleet: theirs, since_ms })) => {
                    ours = None;
                    governor.unclaimed(other(&fleet, &theirs, since_ms));
                }
                Ok(Err(failure)) => {
                    next = next.min(AGAIN);
                    governor.claim_in_doubt(&failure.to_string());
                }
                Err(_) => {
                    next = next.min(AGAIN);
                    governor.claim_in_doubt("it does not answer");
                }
            }
            sleep(next).await;
        }
    };
    tokio::select! {
        stopped = stop.wait_for(|stop| *stop) => drop(stopped),
        () = ask => {}
    }
}

/// What happened, and what to do.
fn other(ours: &str, theirs: &str, since_ms: i64) -> String {
    let since = jiff::Timestamp::from_millisecond(since_ms).unwrap_or_default();
    format!(
        "fleet {theirs} drains to this OMS since {since:.0}, this one is {ours}, and together they would exceed its ceiling; stop that one \
         for good, then run: forebay oms claim --take"
    )
}
