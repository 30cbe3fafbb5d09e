//! One made-up order before it is written in a channel's format: inputs, and amounts that add up exactly.

use fastrand::Rng;
use rust_decimal::{Decimal, RoundingStrategy};

use super::words::{self, Market, Place, pick};

/// What was bought, by whom, where to, and what it costs.
///
/// Prices are without tax; tax comes on top per line, on the price after discounts. All amounts have the
/// currency's digits, and every sum is exact.
#[derive(Clone, Debug)]
pub(super) struct Cart {
    /// When the shopper ordered, ms since 1970.
    pub(super) placed_ms: i64,
    pub(super) market: Market,
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: String,
    pub(super) phone: String,
    pub(super) customer: u32,
    pub(super) billing: Address,
    pub(super) shipping: Address,
    pub(super) lines: Vec<CartLine>,
    pub(super) coupon: Option<(&'static str, i64)>,
    pub(super) delivery_name: &'static str,
    pub(super) delivery: Decimal,
    pub(super) delivery_tax: Decimal,
    pub(super) note: &'static str,
}

/// A postal address in the cart's market.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) street: String,
    pub(super) extra: &'static str,
    pub(super) place: Place,
}

/// One product line.
#[derive(Clone, Debug)]
pub(super) struct CartLine {
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    pub(super) variant: &'static str,
    pub(super) quantity: u32,
    pub(super) unit: Decimal,
    /// Percent off this line alone.
    promotion: i64,
    /// Quantity times unit price.
    pub(super) amount: Decimal,
    /// What the line's own promotion takes off; not negative.
    pub(super) own_discount: Decimal,
    /// The line's share of the coupon; not negative.
    pub(super) coupon_share: Decimal,
    /// Tax on what is left.
    pub(super) tax: Decimal,
}

impl CartLine {
    /// Price after all discounts, without tax.
    pub(super) fn price(&self) -> Decimal {
        self.amount - self.own_discount - self.coupon_share
    }
}

impl Cart {
    /// An order of one to `lines_max` lines, placed at that time.
    pub(super) fn new(rng: &mut Rng, placed_ms: i64, lines_max: usize) -> Self {
        let market = pick(rng, words::MARKETS);
        let customer = rng.u32(1..=400_000);
        let billing = address(rng, &market);
        let shipping = if rng.u8(..4) == 0 { address(rng, &market) } else { billing.clone() };
        let express = rng.u8(..3) == 0;
        let delivery = if express { 1290 } else { pick(rng, &[0, 495, 595]) };
        let mut cart = Self {
            placed_ms,
            first_name: pick(rng, market.first_names),
            last_name: pick(rng, market.last_names),
            email: format!("shopper.{customer}@mail{}.example", customer % 7),
            phone: format!("+{}55501{:05}", market.tax_permille, customer % 100_000),
            customer,
            billing,
            shipping,
            lines: (0..rng.usize(1..=lines_max)).map(|_| line(rng, market.exponent)).collect(),
            coupon: (rng.u8(..4) == 0).then(|| pick(rng, words::COUPONS)),
            delivery_name: if express { "Express" } else { "Standard" },
            delivery: Decimal::new(delivery, market.exponent),
            delivery_tax: Decimal::ZERO,
            note: pick(rng, words::NOTES),
            market,
        };
        cart.price();
        cart
    }

    /// The same order with one more of the first line: another content and another total.
    pub(super) fn with_one_more(&self) -> Self {
        let mut cart = self.clone();
        if let Some(line) = cart.lines.first_mut() {
            line.quantity += 1;
            line.unit = line.unit.max(Decimal::new(500, cart.market.exponent));
        }
        cart.price();
        cart
    }

    /// Derives every amount from quantities, unit prices, percentages and tax.
    fn price(&mut self) {
        let exponent = self.market.exponent;
        for line in &mut self.lines {
            line.amount = line.unit * Decimal::from(line.quantity);
            line.own_discount = part(line.amount, line.promotion * 10, exponent);
        }
        let percent = self.coupon.map_or(0, |(_, percent)| percent);
        for line in &mut self.lines {
            line.coupon_share = part(line.amount - line.own_discount, percent * 10, exponent);
            line.tax = part(line.price(), self.market.tax_permille, exponent);
        }
        self.delivery_tax = part(self.delivery, self.market.tax_permille, exponent);
    }

    /// Lines before discounts.
    pub(super) fn subtotal(&self) -> Decimal {
        self.lines.iter().map(|line| line.amount).sum()
    }

    /// Lines after discounts.
    pub(super) fn merchandise(&self) -> Decimal {
        self.lines.iter().map(CartLine::price).sum()
    }

    /// All discounts; not negative.
    pub(super) fn discount(&self) -> Decimal {
        self.subtotal() - self.merchandise()
    }

    /// What the coupon takes off; not negative.
    pub(super) fn coupon_discount(&self) -> Decimal {
        self.lines.iter().map(|line| line.coupon_share).sum()
    }

    /// Tax on the lines.
    pub(super) fn line_tax(&self) -> Decimal {
        self.lines.iter().map(|line| line.tax).sum()
    }

    /// All tax.
    pub(super) fn tax(&self) -> Decimal {
        self.line_tax() + self.delivery_tax
    }

    /// What the shopper pays.
    pub(super) fn grand_total(&self) -> Decimal {
        self.merchandise() + self.delivery + self.tax()
    }

    /// The tax rate as a fraction: 0.19.
    pub(super) fn rate(&self) -> Decimal {
        Decimal::new(self.market.tax_permille, 3)
    }

    /// That many per mille of an amount, rounded as prices are; it has the currency's digits.
    pub(super) fn taxed(&self, amount: Decimal) -> Decimal {
        part(amount, self.market.tax_permille, self.market.exponent)
    }

    /// First and last name as the market writes them.
    pub(super) fn full_name(&self) -> String {
        match self.market.country {
            "JP" => format!("{} {}", self.last_name, self.first_name),
            _ => format!("{} {}", self.first_name, self.last_name),
        }
    }
}

/// So many per mille of an amount, half up, with the currency's digits (trailing zeros kept).
fn part(amount: Decimal, permille: i64, exponent: u32) -> Decimal {
    let mut part = (amount * Decimal::new(permille, 3))
        .round_dp_with_strategy(exponent, RoundingStrategy::MidpointAwayFromZero);
    part.rescale(exponent);
    part
}

fn line(rng: &mut Rng, exponent: u32) -> CartLine {
    let (sku, name, variant, price) = pick(rng, words::PRODUCTS);
    CartLine {
        sku,
        name,
        variant,
        quantity: pick(rng, &[1, 1, 1, 1, 2, 2, 3, 12]),
        unit: Decimal::new(price, exponent),
        promotion: pick(rng, &[0, 0, 0, 0, 15, 100]),
        amount: Decimal::ZERO,
        own_discount: Decimal::ZERO,
        coupon_share: Decimal::ZERO,
        tax: Decimal::ZERO,
    }
}

fn address(rng: &mut Rng, market: &Market) -> Address {
    Address {
        street: format!("{} {}", pick(rng, market.streets), rng.u16(1..300)),
        extra: pick(rng, &["", "", "c/o Café Zoë", "3. OG links"]),
        place: pick(rng, market.places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cart_adds_up_in_the_digits_of_its_currency() {
        let mut rng = Rng::with_seed(7);
        let mut discounted = 0;
        for _ in 0..2_000 {
            let cart = Cart::new(&mut rng, 0, 6);
            let exponent = cart.market.exponent;
            let of_lines: Decimal = cart.lines.iter().map(|l| l.price() + l.tax).sum();
            assert_eq!(of_lines + cart.delivery + cart.delivery_tax, cart.grand_total());
            assert_eq!(
                cart.subtotal() - cart.discount() + cart.delivery + cart.tax(),
                cart.grand_total()
            );
            assert!(cart.lines.iter().all(|line| !line.price().is_sign_negative()));
            for amount in [cart.grand_total(), cart.tax(), cart.discount(), cart.delivery] {
                assert_eq!(amount.scale(), exponent, "{amount} {}", cart.market.currency);
            }
            discounted += usize::from(!cart.discount().is_zero());
            assert!(cart.with_one_more().grand_total() >= cart.grand_total());
        }
        assert!(discounted > 500, "discounts are common, {discounted}");
    }

    #[test]
    fn one_more_is_another_content() {
        let mut rng = Rng::with_seed(8);
        for _ in 0..500 {
            let cart = Cart::new(&mut rng, 0, 3);
            let more = cart.with_one_more();
            assert_ne!(cart.lines[0].quantity, more.lines[0].quantity);
        }
    }
}
