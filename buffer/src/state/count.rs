//! Counts and money, kept up with every change.

use std::collections::BTreeMap;

use forebay_order::Currency;
use rust_decimal::Decimal;

use super::order::Order;
use crate::OrderState;
use crate::digest::{CurrencyCode, MONEY_SCALE};

/// Orders per state, and money that waits.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By the state's number.
    states: [u64; 10],
    /// With the OMS under a ticket, their outcome not known.
    outstanding: u64,
    money: BTreeMap<CurrencyCode, i128>,
}

impl Counts {
    pub(super) fn enter(&mut self, order: &Order) {
        if let Some(count) = self.states.get_mut(usize::from(order.state as u8)) {
            *count += 1;
        }
        self.outstanding += u64::from(order.is_outstanding());
        self.add_money(order, 1);
    }

    pub(super) fn leave(&mut self, order: &Order) {
        if let Some(count) = self.states.get_mut(usize::from(order.state as u8)) {
            *count = count.saturating_sub(1);
        }
        self.outstanding = self.outstanding.saturating_sub(u64::from(order.is_outstanding()));
        self.add_money(order, -1);
    }

    /// One that had ended lives again, or is counted anew.
    pub(super) fn uncount(&mut self, ended: OrderState) {
        if let Some(count) = self.states.get_mut(usize::from(ended as u8)) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn of(&self, state: OrderState) -> u64 {
        self.states.get(usize::from(state as u8)).copied().unwrap_or_default()
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Live orders by state.
    pub(super) fn live(&self) -> BTreeMap<&'static str, u64> {
        self.words(|state| !is_end(state))
    }

    /// Ended orders by state, since the store was created.
    pub(super) fn ended(&self) -> BTreeMap<&'static str, u64> {
        self.words(is_end)
    }

    /// Ended orders by state, for the checkpoint.
    pub(super) fn ended_codes(&self) -> Vec<(u8, u64)> {
        let ends = OrderState::ALL.into_iter().filter(|state| is_end(*state));
        ends.map(|state| (state as u8, self.of(state))).collect()
    }

    /// What a checkpoint said; counts the orders whose records are retired.
    pub(super) fn set_ended(&mut self, codes: &[(u8, u64)]) {
        for (code, count) in codes {
            if OrderState::ALL.iter().any(|state| is_end(*state) && *state as u8 == *code)
                && let Some(known) = self.states.get_mut(usize::from(*code))
            {
                *known = *count;
            }
        }
    }

    /// Money that waits, as decimal text by currency.
    pub(super) fn money(&self) -> BTreeMap<String, String> {
        let waiting = self.money.iter().filter(|(_, sum)| **sum != 0);
        let text = |(code, sum): (&CurrencyCode, &i128)| {
            let currency = code.text();
            let decimals = currency.parse().map_or(2, Currency::exponent);
            (currency, text(*sum, decimals))
        };
        waiting.map(text).collect()
    }

    fn words(&self, wanted: impl Fn(OrderState) -> bool) -> BTreeMap<&'static str, u64> {
        let states = OrderState::ALL.into_iter().filter(|state| wanted(*state));
        states.map(|state| (state.word(), self.of(state))).collect()
    }

    fn add_money(&mut self, order: &Order, sign: i128) {
        let waits = matches!(
            order.state,
            OrderState::Held | OrderState::Pending | OrderState::Leased | OrderState::Submitted
        );
        if let (true, Some((currency, units))) = (waits, order.money()) {
            let sum = self.money.entry(currency).or_default();
            *sum = sum.saturating_add(sign.saturating_mul(units));
        }
    }
}

fn is_end(state: OrderState) -> bool {
    matches!(
        state,
        OrderState::Summarised
            | OrderState::Cancelled
            | OrderState::Discarded
            | OrderState::Recorded
    )
}

/// A sum as decimal text, with so many decimals at least.
fn text(sum: i128, decimals: u32) -> String {
    match Decimal::try_from_i128_with_scale(sum, MONEY_SCALE) {
        Ok(sum) => {
            let mut sum = sum.normalize();
            if sum.scale() < decimals {
                sum.rescale(decimals);
            }
            sum.to_string()
        }
        Err(_) => format!("{}", sum / 10_i128.pow(MONEY_SCALE)),
    }
}

#[cfg(test)]
mod tests {
    use forebay_order::Money;
    use forebay_order::money::parse_amount;

    use super::*;
    use crate::digest::units;

    #[test]
    fn sums_keep_the_currency_decimals() {
        let eur: Currency = "EUR".parse().unwrap();
        let jpy: Currency = "JPY".parse().unwrap();
        let money = |text, currency| Money { amount: parse_amount(text).unwrap(), currency };
        let sum = units(money("19.9", eur)) + units(money("0.10", eur));
        assert_eq!(text(sum, eur.exponent()), "20.00");
        assert_eq!(text(units(money("1500", jpy)), jpy.exponent()), "1500");
        assert_eq!(text(units(money("1e2", eur)), eur.exponent()), "100.00");
        assert_eq!(
            text(i128::MAX, eur.exponent()).len(),
            35,
            "far beyond a decimal, still a number"
        );
    }
}
