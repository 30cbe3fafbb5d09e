//! At which rate of calls an OMS speaks of its limit, and what it tells of it by itself.

use std::time::Duration;

use forebay_order::OrderKey;
use forebay_processor::{CallFailure, OrderManagement};
use tokio::time::Instant;

use super::Verifying;
use crate::cli::check::Check;

/// Calls a second that are tried, each for so long, where the configuration has no lower limit.
const RATES: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
const EACH: Duration = Duration::from_secs(2);

impl Verifying<'_> {
    /// Look-ups, faster and faster.
    pub(super) async fn limit(&mut self) {
        if !self.oms.can_find() {
            let finding = "not measured: only look-ups are made faster and faster, and it cannot be asked (oms.find)";
            let advice =
                "configure oms.find if the OMS has it, or take its limits from its documentation";
            return self.checks.push(Check::warn("limit", finding, advice));
        }
        let most = self.config.oms.limits.as_ref().and_then(|limits| limits.calls_per_s);
        let most = most.unwrap_or(f64::MAX);
        let identity =
            [OrderKey::new("forebay", "verify", format!("{}-nobody", self.run)).identity()];
        let mut held = 0.0;
        if RATES.iter().all(|rate| *rate > most) {
            let finding = format!("not tried: oms.limits.calls_per_s is {most}");
            return self.checks.push(Check::ok("limit", finding));
        }
        for rate in RATES.into_iter().filter(|rate| *rate <= most) {
            let began = Instant::now();
            let (mut due, mut calls) = (began, 0);
            while began.elapsed() < EACH {
                match self.oms.find(&identity).await {
                    Ok(_) => calls += 1,
                    Err(CallFailure::Overloaded { after, scope }) => {
                        let told = after.map_or("no time to come back".to_owned(), |after| {
                            format!("come back in {after:?}")
                        });
                        let finding =
                            format!("at {rate} calls/s it speaks of its limit ({scope:?}): {told}");
                        let advice = format!("set oms.limits.calls_per_s to at most {held:.1}");
                        return self.checks.push(Check::warn("limit", finding, advice));
                    }
                    Err(failure) => {
                        return self.checks.push(Check::warn(
                            "limit",
                            failure.to_string(),
                            "look at the OMS",
                        ));
                    }
                }
                due += Duration::from_secs_f64(1.0 / rate);
                tokio::time::sleep_until(due).await;
            }
            held = f64::from(calls) / began.elapsed().as_secs_f64();
        }
        self.checks.push(Check::ok(
            "limit",
            format!("{held:.1} calls/s without a word of a limit; more was not tried"),
        ));
    }
    /// What its answers said of its limits.
    pub(super) fn told(&mut self) {
        let words = self.oms.limits_told();
        let words: Vec<_> = words.iter().map(|(name, text)| format!("{name}: {text}")).collect();
        self.checks.push(Check::ok(
            "told",
            match words.is_empty() {
                true => "no answer told of a limit (Retry-After, RateLimit, Sforce-Limit-Info)"
                    .to_owned(),
                false => format!("its answers told last: {}", words.join("; ")),
            },
        ));
    }
}
