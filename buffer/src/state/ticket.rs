//! Which orders the OMS has under a ticket.

use std::collections::BTreeSet;

use super::State;
use super::order::Ticket;

/// Tickets, each with its order. One ticket may stand for several, where an OMS gives one to a whole call.
#[derive(Debug, Default)]
pub(super) struct Tickets(BTreeSet<(Box<str>, u64)>);

impl State {
    /// Orders with the OMS under a ticket, their outcome not known.
    pub(crate) fn outstanding(&self) -> u64 {
        self.counts.outstanding()
    }

    /// Whether an order is one of those.
    pub(crate) fn is_outstanding(&self, order: u64) -> bool {
        self.get(order).is_some_and(|order| order.is_outstanding())
    }

    /// The orders under a ticket, also those that wait for a person because their time was over.
    pub(crate) fn under_ticket(&self, ticket: &str) -> impl Iterator<Item = u64> {
        let of_it = self.tickets.0.range((ticket.into(), 0)..);
        of_it.take_while(move |(text, _)| **text == *ticket).map(|(_, order)| *order)
    }

    pub(super) fn ticket_of(&self, order: u64) -> Option<&Ticket> {
        self.detail(order)?.ticket.as_deref()
    }

    pub(super) fn give_ticket(&mut self, order: u64, text: &str, at_ms: Option<i64>) {
        self.untie_ticket(order);
        let Some(detail) = self.detail_mut(order) else { return };
        detail.ticket = Some(Box::new(Ticket { text: text.into(), at_ms }));
        self.tickets.0.insert((text.into(), order));
        self.change(order, |order| order.ticketed = true);
    }

    pub(super) fn take_ticket(&mut self, order: u64) {
        if self.ticket_of(order).is_none() {
            return;
        }
        self.untie_ticket(order);
        if let Some(detail) = self.detail_if(order) {
            detail.ticket = None;
        }
        self.change(order, |order| order.ticketed = false);
    }

    /// The order is not found by its ticket any more.
    pub(super) fn untie_ticket(&mut self, order: u64) {
        if let Some(text) = self.ticket_of(order).map(|ticket| ticket.text.clone()) {
            self.tickets.0.remove(&(text, order));
        }
    }
}
