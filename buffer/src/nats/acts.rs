//! What people do about exceptions, and what the OMS says by itself: written to the order's page by whoever is asked, whoever
//! owns its partition.

use super::fleet::Ask;
use super::shared::{Look, SETTLED_WAIT, Shared, failed};
use super::table::Put;
use crate::record::Record;
use crate::{Act, ActError, ActReceipt, BufferError, Effect, OrderState, Telling};

impl Shared {
    /// Retries or discards an open exception, whoever owns its partition.
    pub(super) async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        self.open()?;
        self.all_settled(SETTLED_WAIT).await;
        let heard = self.ask(Ask::At { sequence: exception }).await.map_err(failed)?;
        let Some(hash) = heard.hash else {
            heard.whole().map_err(failed)?;
            return Err(ActError::NotFound);
        };
        loop {
            let look = self.look(hash).await?;
            if self.write_effect(hash, &look).await.map_err(failed)? {
                continue;
            }
            let known = look.known;
            known.check_act(exception, act)?;
            let record = Record::Act { exception, act, at_ms: self.clock.wall_ms() };
            let page = known.page_with(record).ok_or(ActError::NotFound)?;
            let put = self.write(hash, known.stored, page.clone()).await.map_err(failed)?;
            if let Put::Done(sequence) = put {
                let page = page.stored_at(sequence);
                self.take(hash, sequence, &page);
                let state = self.look(hash).await?.known.state().unwrap_or(OrderState::Discarded);
                return Ok(ActReceipt { id: exception, act, state });
            }
        }
    }

    /// Takes the OMS's own word of an order, whoever owns its partition. A loan of it is over by that.
    pub(super) async fn tell(&self, telling: &Telling) -> Result<Effect, BufferError> {
        self.open()?;
        let hash = match (&telling.key, &telling.ticket) {
            (Some(key), _) => self.store.hasher.of_key(key),
            (None, ticket) => {
                self.all_settled(SETTLED_WAIT).await;
                let ticket = ticket.clone().unwrap_or_default();
                let heard = self.ask(Ask::Ticket { ticket }).await.map_err(failed)?;
                match heard.whole().map_err(failed)?.rows.as_slice() {
                    [] => return Ok(Effect::UnknownOrder),
                    [(_, hash)] => *hash,
                    _ => return Ok(Effect::Ambiguous),
                }
            }
        };
        loop {
            let look = self.look(hash).await?;
            if self.write_effect(hash, &look).await.map_err(failed)? {
                continue;
            }
            let Look { mut known, lent } = look;
            let record = match known.judge_telling(telling, self.clock.wall_ms()) {
                Ok(record) => record,
                Err(effect) => return Ok(effect),
            };
            if let Some(lent) = lent {
                known.loan_is_over(lent.loan);
            }
            let keep_whole = !self.config.replay_window.is_zero();
            let Some(page) = known.page_settling(record.clone(), keep_whole) else {
                return Ok(Effect::UnknownOrder);
            };
            let put = self.write(hash, known.stored, page.clone()).await.map_err(failed)?;
            if let Put::Done(sequence) = put {
                self.take(hash, sequence, &page.stored_at(sequence));
                self.count_settled(&record);
                return Ok(Effect::Done);
            }
        }
    }
}
