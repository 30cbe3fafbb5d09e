//! From a lease to an order that can be sent, or to the exception that says why not.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, ExceptionCategory, Lease};
use forebay_order::{Fingerprint, Format, OrderKey, OrderSummary, Unmappable};

use super::{Order, Worker};
use crate::caught::caught_fn;
use crate::oms::{Guarantee, OrderManagement};

/// Makes a summary of kept bytes: [`forebay_order::summarise`].
pub(crate) type Summarise =
    fn(Format, OrderKey, Fingerprint, &[u8]) -> Result<OrderSummary, Unmappable>;

/// How far a storefront's clock may be off, its time zone included.
const CLOCKS_DIFFER: Duration = Duration::from_secs(86_400);

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// Orders ready to be sent, and leases that had all their attempts but may be in the OMS. Every other
    /// one is settled as an exception.
    pub(super) fn prepare(&self, leases: Vec<Lease>) -> (Vec<Order>, Vec<Lease>) {
        let (mut orders, mut exhausted) = (Vec::with_capacity(leases.len()), Vec::new());
        let (guarantee, can_find) = (self.shared.oms.guarantee(), self.shared.oms.can_find());
        let refuses_second = guarantee.refuses_second();
        // An idempotency key is forgotten sooner than an order that ended.
        let asks_forgotten = can_find && guarantee != Guarantee::UniqueId;
        for lease in leases {
            let maybe_there = lease.sent_before;
            if maybe_there && !can_find && !refuses_second {
                self.settle_unasked(lease);
                continue;
            }
            let ask = (can_find && maybe_there) || (asks_forgotten && lease.look_first);
            if lease.attempts >= self.shared.attempts_max {
                // Nothing is done with its bytes any more: they may be what kills the process.
                if ask {
                    exhausted.push(lease);
                } else {
                    self.poison(lease);
                }
                continue;
            }
            match self.summary(&lease) {
                Ok(summary) => {
                    let ask = ask || (asks_forgotten && self.may_be_forgotten(&lease, &summary));
                    let summary = Arc::new(summary);
                    orders.push(Order { lease, summary, ask, noted: false });
                }
                Err((category, reason)) => self.exception(lease, category, reason),
            }
        }
        (orders, exhausted)
    }

    /// Whether it may repeat an order that ended so long ago that the buffer has forgotten it. Such an order was placed
    /// before it ended, and a repeat has the same date.
    fn may_be_forgotten(&self, lease: &Lease, summary: &OrderSummary) -> bool {
        let remembered = self.shared.remembered.saturating_sub(CLOCKS_DIFFER).as_millis();
        let since = lease
            .accepted_at_ms
            .saturating_sub_unsigned(u64::try_from(remembered).unwrap_or(u64::MAX));
        summary.ordered_date_ms.is_none_or(|ordered| ordered < since)
    }

    pub(super) fn poison(&self, lease: Lease) {
        let reason = format!(
            "{} attempts failed, and none put it into the OMS; look at the order, then retry or discard it",
            lease.attempts
        );
        self.exception(lease, ExceptionCategory::Poison, reason);
    }

    fn summary(&self, lease: &Lease) -> Result<OrderSummary, (ExceptionCategory, String)> {
        let oms = &self.shared.oms;
        if lease.synthetic && !oms.is_test() {
            let reason = "a synthetic order, and the OMS is not marked as a test one (oms.test)";
            return Err((ExceptionCategory::Rejected, reason.to_owned()));
        }
        let (bytes, most) = (lease.key.identity().len(), oms.identity_max());
        if bytes > most {
            let reason = format!("its identity has {bytes} bytes, the OMS stores {most}");
            return Err((ExceptionCategory::Rejected, reason));
        }
        let Some(format) = Format::from_code(lease.format) else {
            let reason = format!("format {} is of a later release; run that one", lease.format);
            return Err((ExceptionCategory::Unmappable, reason));
        };
        let (key, fingerprint) = (lease.key.clone(), lease.fingerprint);
        match caught_fn(|| (self.shared.summarise)(format, key, fingerprint, &lease.body)) {
            Ok(Ok(summary)) => Ok(summary),
            Ok(Err(Unmappable { code, reason })) => {
                Err((ExceptionCategory::Unmappable, format!("{code}: {reason}")))
            }
            Err(panicked) => {
                let reason = format!("making its summary failed: {panicked}; report this");
                Err((ExceptionCategory::Poison, reason))
            }
        }
    }
}
