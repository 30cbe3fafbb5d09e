//! What the OMSs of tables refuse besides what the tables themselves do. An odd order is a sale, so there is little: an identity over the
//! limit, a negative quantity, and a summary that points outside its own lists.

use forebay_order::OrderSummary;

/// The longest identity, in bytes.
pub(super) const IDENTITY_MAX: usize = 255;

/// Why an order is refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// A stable word.
    pub(super) code: &'static str,
    /// What is wrong; nothing personal.
    pub(super) reason: String,
}

/// Why an order is refused, if it is.
pub(super) fn refuse(identity: &str, summary: &OrderSummary) -> Option<Refused> {
    if identity.len() > IDENTITY_MAX {
        let reason =
            format!("its identity has {} bytes, {IDENTITY_MAX} are the most", identity.len());
        return Some(Refused { code: "identity_too_long", reason });
    }
    for line in &summary.lines {
        if line.quantity.is_sign_negative() && !line.quantity.is_zero() {
            let reason = format!("line {} has a negative quantity", line.number);
            return Some(Refused { code: "negative_quantity", reason });
        }
        let group = line.delivery_group.is_some_and(|at| at >= summary.delivery_groups.len());
        let mut groups = line.adjustments.iter().filter_map(|adjustment| adjustment.group);
        if group || groups.any(|at| at >= summary.adjustment_groups.len()) {
            let reason = format!("line {} points to a group the order has not", line.number);
            return Some(Refused { code: "unknown_group", reason });
        }
    }
    None
}
