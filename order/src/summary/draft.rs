//! From what a format's file read to a whole order summary: numbering, header discounts, totals, difference.

use rust_decimal::{Decimal, RoundingStrategy};

use super::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, LifeCycle, Line, LineKind, Oddity,
    OrderSummary, Payment, Shopper, Stated, TaxLocale, Totals,
};
use crate::money::AMOUNT_MAX;
use crate::{Currency, Fingerprint, OrderKey};

/// An order summary in the making. A format's file fills it; [`Draft::finish`] derives the rest.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) key: OrderKey,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) order_number: String,
    pub(crate) ordered_date_text: String,
    pub(crate) ordered_date_ms: Option<i64>,
    pub(crate) life_cycle: LifeCycle,
    pub(crate) currency: Currency,
    pub(crate) tax_locale: TaxLocale,
    pub(crate) shopper: Shopper,
    pub(crate) billing: Option<Address>,
    pub(crate) delivery_groups: Vec<DeliveryGroup>,
    /// Lines in document order; their numbers are given by `finish`.
    pub(crate) lines: Vec<Line>,
    /// Order-level adjustments whose shares already stand on the lines, by index.
    pub(crate) adjustment_groups: Vec<AdjustmentGroup>,
    /// Order-level adjustments stated without shares; `finish` distributes them.
    pub(crate) header: Vec<HeaderAdjustment>,
    pub(crate) payments: Vec<Payment>,
    pub(crate) stated: Stated,
    /// What the format's file found odd; `finish` adds what follows from the numbers.
    pub(crate) oddities: Vec<Oddity>,
}

/// An order-level adjustment stated as one amount.
#[derive(Clone, Debug)]
pub(crate) struct HeaderAdjustment {
    pub(crate) name: String,
    /// Without tax; a discount is negative.
    pub(crate) amount: Decimal,
    /// Tax on it; a discount's is negative.
    pub(crate) tax: Decimal,
}

impl Draft {
    /// An empty draft of one managed, net-priced order.
    pub(crate) fn new(key: OrderKey, fingerprint: Fingerprint, currency: Currency) -> Self {
        Self {
            key,
            fingerprint,
            order_number: String::new(),
            ordered_date_text: String::new(),
            ordered_date_ms: None,
            life_cycle: LifeCycle::Managed,
            currency,
            tax_locale: TaxLocale::Net,
            shopper: Shopper::default(),
            billing: None,
            delivery_groups: Vec::new(),
            lines: Vec::new(),
            adjustment_groups: Vec::new(),
            header: Vec::new(),
            payments: Vec::new(),
            stated: Stated::default(),
            oddities: Vec::new(),
        }
    }

    /// Numbers the lines (products first), distributes header adjustments by line price, derives the
    /// totals and, where the channel's stated grand total is another, adds the difference line.
    pub(crate) fn finish(mut self) -> OrderSummary {
        self.lines.sort_by_key(|line| line.kind != LineKind::Product);
        self.distribute_header();
        let parts = totals(&self.lines).grand_total;
        let difference = self.stated.grand_total.map_or(Decimal::ZERO, |stated| stated - parts);
        if !difference.is_zero() {
            self.lines.push(difference_line(difference));
        }
        for (number, line) in (1..).zip(&mut self.lines) {
            line.number = number;
        }
        self.note_oddities(difference);
        OrderSummary {
            totals: totals(&self.lines),
            key: self.key,
            fingerprint: self.fingerprint,
            order_number: self.order_number,
            ordered_date_text: self.ordered_date_text,
            ordered_date_ms: self.ordered_date_ms,
            life_cycle: self.life_cycle,
            currency: self.currency,
            tax_locale: self.tax_locale,
            shopper: self.shopper,
            billing: self.billing,
            delivery_groups: self.delivery_groups,
            adjustment_groups: self.adjustment_groups,
            lines: self.lines,
            payments: self.payments,
            stated: self.stated,
            difference,
            oddities: self.oddities,
        }
    }

    /// Shares each header adjustment among the product lines (all lines, if there is no product) by
    /// their price, rounded to the currency, the rest on the last line. With nothing to share it by, it
    /// is left out here and shows up in the difference.
    fn distribute_header(&mut self) {
        for header in std::mem::take(&mut self.header) {
            let group = self.adjustment_groups.len();
            self.adjustment_groups.push(AdjustmentGroup { name: header.name.clone() });
            let products = self.lines.iter().any(|line| line.kind == LineKind::Product);
            let mut sharing: Vec<&mut Line> = self
                .lines
                .iter_mut()
                .filter(|line| {
                    (!products || line.kind == LineKind::Product)
                        && line_price(line) > Decimal::ZERO
                })
                .collect();
            let weights: Vec<Decimal> = sharing.iter().map(|line| line_price(line)).collect();
            let amounts = shares(header.amount, &weights, self.currency);
            let taxes = shares(header.tax, &weights, self.currency);
            for ((line, amount), tax) in sharing.iter_mut().zip(amounts).zip(taxes) {
                let name = header.name.clone();
                line.adjustments.push(Adjustment { amount, tax, name, group: Some(group) });
            }
            self.oddities.push(Oddity::DiscountDistributed);
        }
    }

    fn note_oddities(&mut self, difference: Decimal) {
        let products = self.lines.iter().filter(|line| line.kind == LineKind::Product).count();
        let exponent = self.currency.exponent();
        let stated = [self.stated.grand_total, self.stated.tax_total, self.stated.shipping_total];
        let mut add = |odd: bool, oddity| {
            if odd && !self.oddities.contains(&oddity) {
                self.oddities.push(oddity);
            }
        };
        add(self.shopper.email_normalised.is_none(), Oddity::NoEmail);
        add(products == 0, Oddity::NoLines);
        add(!difference.is_zero(), Oddity::TotalsDiffer);
        add(self.ordered_date_ms.is_none(), Oddity::NoOrderedInstant);
        let beyond =
            stated.into_iter().flatten().any(|amount| amount.normalize().scale() > exponent);
        add(beyond, Oddity::FractionBeyondCurrency);
        self.oddities.sort_unstable();
        self.oddities.dedup();
    }
}

/// A line's price with its adjustments so far, without tax.
fn line_price(line: &Line) -> Decimal {
    line.line_amount + line.adjustments.iter().map(|a| a.amount).sum::<Decimal>()
}

/// Splits `amount` by `weights`, each share rounded to the currency's exponent (or the amount's own
/// scale, if finer), the last taking what rounding left. Empty weights give no shares.
pub(crate) fn shares(amount: Decimal, weights: &[Decimal], currency: Currency) -> Vec<Decimal> {
    let sum: Decimal = weights.iter().sum();
    if sum.is_zero() {
        return Vec::new();
    }
    let scale = currency.exponent().max(amount.normalize().scale());
    let mut left = amount;
    let mut out: Vec<Decimal> = weights
        .iter()
        .map(|weight| {
            // The ratio first: amount * weight may overflow for amounts no shop has. So may the ratio, where
            // large weights of both signs leave a tiny sum; the last share then takes it all.
            let ratio = weight.checked_div(sum).unwrap_or_default();
            let share = amount.checked_mul(ratio).filter(|share| share.abs() < AMOUNT_MAX);
            let share = share.unwrap_or_default();
            let share = share.round_dp_with_strategy(scale, RoundingStrategy::MidpointAwayFromZero);
            left -= share;
            share
        })
        .collect();
    if let Some(last) = out.last_mut() {
        *last += left;
    }
    out
}

fn difference_line(difference: Decimal) -> Line {
    Line {
        number: 0,
        kind: LineKind::Difference,
        delivery_group: None,
        product_code: String::new(),
        name: "Difference to the channel's stated grand total".to_owned(),
        quantity: Decimal::ONE,
        unit_price: difference,
        line_amount: difference,
        adjustments: Vec::new(),
        taxes: Vec::new(),
    }
}

fn totals(lines: &[Line]) -> Totals {
    let mut sums = Totals::default();
    for line in lines {
        let of_kind = match line.kind {
            LineKind::Product => &mut sums.product,
            LineKind::DeliveryCharge => &mut sums.delivery,
            LineKind::Fee | LineKind::Difference => &mut sums.fee,
        };
        *of_kind += line.line_amount;
        sums.total_tax_amount += line.taxes.iter().map(|tax| tax.amount).sum::<Decimal>();
        for adjustment in &line.adjustments {
            let of_scope = match adjustment.group {
                Some(_) => &mut sums.header_adjustment,
                None => &mut sums.line_adjustment,
            };
            *of_scope += adjustment.amount;
            sums.total_tax_amount += adjustment.tax;
        }
    }
    sums.total_amount =
        sums.product + sums.delivery + sums.fee + sums.line_adjustment + sums.header_adjustment;
    sums.grand_total = sums.total_amount + sums.total_tax_amount;
    sums
}

#[cfg(test)]
mod tests {
    use super::super::Tax;
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn draft() -> Draft {
        Draft::new(OrderKey::new("c", "s", "1"), Fingerprint([0; 16]), "USD".parse().unwrap())
    }

    fn line(kind: LineKind, amount: &str, tax: &str) -> Line {
        Line {
            kind,
            line_amount: dec(amount),
            taxes: vec![Tax { name: String::new(), rate: None, amount: dec(tax) }],
            ..difference_line(Decimal::ZERO)
        }
    }

    #[test]
    fn the_worked_example_of_the_documentation() {
        // Price 100, tax 10; a 10 % discount is -10 with tax -1: 90 / 9 / 99.
        let mut draft = draft();
        let mut product = line(LineKind::Product, "100", "10");
        let discount =
            Adjustment { amount: dec("-10"), tax: dec("-1"), name: "10%".into(), group: None };
        product.adjustments.push(discount);
        draft.lines.push(product);
        let totals = draft.finish().totals;
        assert_eq!((totals.total_amount, totals.total_tax_amount), (dec("90"), dec("9")));
        assert_eq!(totals.grand_total, dec("99"));
    }

    #[test]
    fn a_header_discount_does_not_vanish() {
        let mut draft = draft();
        draft.lines.push(line(LineKind::DeliveryCharge, "5.00", "0"));
        for amount in ["10.00", "10.00", "10.00"] {
            draft.lines.push(line(LineKind::Product, amount, "0"));
        }
        draft.header.push(HeaderAdjustment {
            name: "TEN".into(),
            amount: dec("-10.00"),
            tax: dec("0"),
        });
        draft.stated.grand_total = Some(dec("25.00"));
        let summary = draft.finish();
        assert_eq!(summary.totals.header_adjustment, dec("-10.00"));
        assert_eq!(summary.totals.grand_total, dec("25.00"));
        assert_eq!(summary.difference, Decimal::ZERO);
        let of_line: Vec<_> = summary.lines.iter().map(|l| line_price(l).to_string()).collect();
        assert_eq!(
            of_line,
            ["6.67", "6.67", "6.66", "5.00"],
            "products first, the rest on the last"
        );
    }

    #[test]
    fn the_stated_total_is_trusted_and_the_difference_recorded() {
        let mut draft = draft();
        draft.lines.push(line(LineKind::Product, "92.00", "0"));
        draft.stated.grand_total = Some(dec("92.01"));
        let summary = draft.finish();
        assert_eq!(summary.difference, dec("0.01"));
        assert_eq!(summary.totals.grand_total, dec("92.01"));
        assert!(summary.oddities.contains(&Oddity::TotalsDiffer));
        assert_eq!(summary.lines.len(), 2);
    }

    #[test]
    fn large_weights_of_both_signs_overflow_nothing() {
        let weights = [
            "100000000000000000000000",
            "-100000000000000000000000",
            "0.0000000000000000000000000001",
        ];
        let weights = weights.map(dec);
        for amount in ["0.01", "-999999999999999999999999"] {
            let parts = shares(dec(amount), &weights, "EUR".parse().unwrap());
            assert_eq!(parts.iter().sum::<Decimal>(), dec(amount));
        }
    }

    #[test]
    fn no_lines_and_zero_weights_divide_by_nothing() {
        let mut draft = draft();
        draft.header.push(HeaderAdjustment { name: "X".into(), amount: dec("-1"), tax: dec("0") });
        draft.stated.grand_total = Some(dec("0.00"));
        let summary = draft.finish();
        assert_eq!(summary.totals.grand_total, Decimal::ZERO);
        assert!(summary.oddities.contains(&Oddity::NoLines));
    }
}
