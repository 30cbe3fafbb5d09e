//! Whose orders are drained to an OMS, as it keeps it: one small record of its own, read, and written where it is not there.
//!
//! HTTP in general cannot say "only if it is not there", so two fleets may write it at the same time and each be answered "done"; the
//! last one's stays. Whoever has just written it therefore waits as after a takeover, and asks again before it drains.

use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{Clock as _, SystemClock};
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::{Shared, get, no_path};
use crate::oms::{CallFailure, Claim, ClaimPace};

/// Each question is one of the calls that an account has a day: 2,880 a process.
pub(super) const PACE: ClaimPace = ClaimPace {
    ask: Duration::from_secs(30),
    good_for: Duration::from_secs(80),
    take_over: Duration::from_secs(180),
};

/// What the record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) fleet: String,
    pub(super) since_ms: i64,
}

pub(super) async fn claim(shared: &Shared, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
    let Some(claim) = &shared.options.claim else { return Ok(Claim::Untold) };
    let answer = shared.call(get(&shared.claim_base, &claim.path)?).await?;
    match shared.reading.noted(claim, &answer)? {
        Some(Noted { fleet: theirs, since_ms }) if theirs == fleet => {
            Ok(Claim::Ours { taken_ms: Some(since_ms) })
        }
        Some(Noted { fleet, since_ms }) if !take => Ok(Claim::Theirs { fleet, since_ms }),
        _ => {
            let since_ms = SystemClock.wall_ms();
            let answer = shared.change(write(shared, fleet, since_ms)?).await?;
            shared.reading.written(&answer)?;
            Ok(Claim::Ours { taken_ms: Some(since_ms) })
        }
    }
}

fn write(shared: &Shared, fleet: &str, since_ms: i64) -> Result<Request<Bytes>, CallFailure> {
    let no_claim = || CallFailure::NotSent("it keeps no claim (oms.claim)".to_owned());
    let claim = shared.options.claim.as_ref().ok_or_else(no_claim)?;
    let body = shared.templates.claim(fleet, since_ms).map_err(CallFailure::NotSent)?;
    let path = claim.write_path.as_ref().unwrap_or(&claim.path);
    Request::builder()
        .method(http::Method::from(claim.method))
        .uri(format!("{}{path}", shared.claim_base))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(body)
        .map_err(no_path)
}
