//! Arithmetic on amounts that cannot overflow, whatever a sender writes.
//!
//! Single amounts stay below [`AMOUNT_MAX`]; with no more than [`PARTS_MAX`] of them in one order, no sum
//! of them leaves the range of a decimal.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::Unmappable;
use crate::money::AMOUNT_MAX;
use crate::summary::Draft;

/// Lines, adjustments, taxes and shipments in one order.
const PARTS_MAX: usize = 20_000;

/// `a * b`.
///
/// # Errors
/// The product is no amount: too large.
pub(crate) fn times(a: Decimal, b: Decimal) -> Result<Decimal, Unmappable> {
    a.checked_mul(b).filter(|product| product.abs() < AMOUNT_MAX).ok_or_else(too_large)
}

/// `amount * part / whole`, rounded to `scale` decimals; zero where `whole` is zero.
///
/// # Errors
/// The result is no amount: too large.
pub(crate) fn proportion(
    amount: Decimal,
    part: Decimal,
    whole: Decimal,
    scale: u32,
) -> Result<Decimal, Unmappable> {
    if whole.is_zero() || part.is_zero() {
        return Ok(Decimal::ZERO);
    }
    let ratio = part.checked_div(whole).ok_or_else(too_large)?;
    let share = times(amount, ratio)?;
    Ok(share.round_dp_with_strategy(scale, RoundingStrategy::MidpointAwayFromZero))
}

/// Refuses an order of more parts than can be summed safely; asked before anything is summed.
///
/// # Errors
/// There are more than [`PARTS_MAX`].
pub(crate) fn check_parts(parts: usize) -> Result<(), Unmappable> {
    if parts <= PARTS_MAX {
        return Ok(());
    }
    let reason =
        format!("more than {PARTS_MAX} lines, discounts, taxes and shipments; split the order");
    Err(Unmappable { code: "too_many_parts", reason })
}

/// Refuses a draft whose parts are too many or too large to be summed.
///
/// # Errors
/// It is such a draft.
pub(crate) fn check(draft: &Draft) -> Result<(), Unmappable> {
    let mut parts = draft.header.len() * (draft.lines.len() + 1);
    let mut fits = draft.header.iter().all(|h| small(h.amount) && small(h.tax));
    for line in &draft.lines {
        parts += 1 + line.adjustments.len() * 2 + line.taxes.len();
        fits &= small(line.line_amount);
        fits &= line.adjustments.iter().all(|a| small(a.amount) && small(a.tax));
        fits &= line.taxes.iter().all(|tax| small(tax.amount));
    }
    check_parts(parts)?;
    if fits { Ok(()) } else { Err(too_large()) }
}

fn small(amount: Decimal) -> bool {
    amount.abs() <= AMOUNT_MAX
}

fn too_large() -> Unmappable {
    let reason = "an amount or quantity is too large to be one; correct the order at its source";
    Unmappable { code: "amount_too_large", reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn pitfall_36_a_zero_whole_divides_by_nothing() {
        assert_eq!(proportion(dec("5"), dec("1"), dec("0"), 2), Ok(dec("0")));
        assert_eq!(proportion(dec("11.90"), dec("17.10"), dec("107.10"), 2), Ok(dec("1.90")));
    }

    #[test]
    fn what_would_overflow_is_refused() {
        assert_eq!(times(dec("1.5"), dec("2")), Ok(dec("3.0")));
        let huge = dec("999999999999999999999999");
        assert!(times(huge, huge).is_err());
        assert!(proportion(huge, huge, dec("0.0000000000000000000000000001"), 2).is_err());
    }
}
