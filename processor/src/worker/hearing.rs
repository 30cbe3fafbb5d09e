//! What an asynchronous OMS says of orders that it had only taken.
//!
//! # What it promises
//! - A ticket takes no brake off; what became of the probe's order does, told or looked up.
//! - An order that is refused under its ticket, which is told, was not created, so it may be sent again. While the brake is on for that code it goes back,
//!   and no attempt is counted. Otherwise it is held back once for [`DrainConfig::refusal_hold`](crate::DrainConfig::refusal_hold), for the
//!   refusal of others may show that it is not its fault, and that counts; refused again it is an exception. All of that is durable, so
//!   it holds after a crash.
//! - A refusal that comes before the ticket waits for it; whoever tells many at once waits no longer for it ([`Patience`]).
//! - Tickets whose time is over count as refusals with a code of their own: a mass of them stops the drain too.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, Clock, Effect, Lease, OrderState, Telling, Word};
use forebay_order::OrderKey;

use super::refusals::take_effect;
use super::{Refusals, Worker};
use crate::DrainConfig;
use crate::governor::Governor;
use crate::oms::OrderManagement;

/// The code under which tickets count whose time is over.
const OVERDUE: &str = "ticket_overdue";

/// The answers to sends that are under way are waited for so long, and looked for so often.
const ANSWER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// How long what is told together waits for the answers to sends that are under way: one for a whole request, so that it is answered
/// soon however many it tells of which no answer comes.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Duration,
}

/// Takes what the OMS tells. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Hearing {
    /// Of this process, if it drains.
    drain: Option<(Governor, Arc<Refusals>)>,
    clock: Arc<dyn Clock>,
}

impl Hearing {
    pub(crate) fn of(governor: Governor, refusals: Arc<Refusals>, clock: Arc<dyn Clock>) -> Self {
        Self { drain: Some((governor, refusals)), clock }
    }

    /// In a process that does not drain.
    pub fn without_drain(clock: Arc<dyn Clock>) -> Self {
        Self { drain: None, clock }
    }

    /// Of what comes now.
    pub fn patience(&self) -> Patience {
        Patience { until: self.clock.elapsed().saturating_add(ANSWER) }
    }

    /// Takes the OMS's word of an order; `code` is why it refused it, `patience` that of all that came with it.
    ///
    /// # Errors
    /// [`BufferError`]: nothing is changed.
    pub async fn tell<B: Buffer>(
        &self,
        buffer: &B,
        mut telling: Telling,
        code: Option<&str>,
        patience: Patience,
    ) -> Result<Effect, BufferError> {
        // Without the ticket it may be of one that the order is not under any more: that is not to send it again.
        if let (Word::Invalid { reason }, true) = (&telling.word, telling.ticket.is_some()) {
            telling.word = self.refused(reason.clone(), code.unwrap_or_default());
        }
        let is_created = matches!(telling.word, Word::Created { .. });
        let is_held = matches!(telling.word, Word::Refused { .. });
        let (key, ticket) = (telling.key.clone(), telling.ticket.clone());
        let effect = self.heard(buffer, telling, patience).await?;
        if let (Effect::Done, Some((governor, refusals))) = (effect, &self.drain) {
            let identity = key.as_ref().map(OrderKey::identity);
            let ticket = ticket.as_deref();
            if is_created {
                governor.created(identity.as_deref(), ticket);
            } else {
                let probe = governor.came_to_nothing(identity.as_deref(), ticket);
                probe.or(identity).into_iter().for_each(|identity| refusals.remember(identity));
                // Refused for the second time it is one bad order, and not one more.
                let is_second = match key.filter(|_| is_held) {
                    Some(key) => {
                        let order = buffer.order(&key).await?;
                        order.is_some_and(|order| order.state == OrderState::Exception)
                    }
                    None => false,
                };
                if !is_second {
                    refusals.told(code.unwrap_or_default(), governor, self.clock.elapsed());
                }
            }
        }
        Ok(effect)
    }

    /// What it comes to. A refusal may be told before the ticket: then it waits until the answer to the send is noted, for it would be
    /// heard in vain, and not told again. Where the order is under a ticket, be it another one, the buffer knows what it comes to.
    async fn heard<B: Buffer>(
        &self,
        buffer: &B,
        telling: Telling,
        patience: Patience,
    ) -> Result<Effect, BufferError> {
        loop {
            let effect = buffer.tell(telling.clone()).await?;
            let is_refusal = !matches!(telling.word, Word::Created { .. });
            let has_time = self.clock.elapsed() < patience.until;
            let (Effect::NotSubmitted, Some(key), true) =
                (effect, &telling.key, is_refusal && has_time)
            else {
                return Ok(effect);
            };
            let state = buffer.order(key).await?.map(|order| order.state);
            if !matches!(state, Some(OrderState::Leased | OrderState::Submitted)) {
                return Ok(effect);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refused(&self, reason: String, code: &str) -> Word {
        let Some((governor, refusals)) = &self.drain else {
            let after = DrainConfig::default().refusal_hold;
            return Word::Refused { reason, after, counts: true };
        };
        if governor.braked_for(code) {
            let after = governor.longer_than_the_next_probe();
            return Word::Refused { reason, after, counts: false };
        }
        match refusals.hold() {
            Duration::ZERO => Word::Invalid { reason },
            after => Word::Refused { reason, after, counts: true },
        }
    }
}

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// The OMS took an order under a ticket. That is an outcome of the send, but not yet of the order.
    pub(super) fn taken(&self, ticket: &str) {
        let (shared, now) = (&self.shared, self.shared.clock.elapsed());
        take_effect(shared.refusals.passed(now), &shared.governor);
        if self.probe.is_some() {
            // The last look-up comes at the deadline, and may have to wait for an answer.
            shared.governor.probe_taken(ticket, shared.ticket_deadline.saturating_mul(2));
        }
    }

    /// An order under a ticket was looked up and found; it may be another's.
    pub(super) fn found_taken(&self, lease: &Lease, is_ours: bool) {
        let (governor, identity) = (&self.shared.governor, lease.key.identity());
        match is_ours {
            true => governor.created(Some(&identity), None),
            false => drop(governor.came_to_nothing(Some(&identity), None)),
        }
    }

    /// The time of an order under a ticket is over.
    pub(super) fn overdue(&self, lease: &Lease) {
        let shared = &self.shared;
        drop(shared.governor.came_to_nothing(Some(&lease.key.identity()), None));
        shared.refusals.told(OVERDUE, &shared.governor, shared.clock.elapsed());
    }
}
