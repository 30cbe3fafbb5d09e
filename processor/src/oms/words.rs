//! The words in which the tables keep what a summary has as one of few.

use forebay_order::summary::{LifeCycle, LineKind, PaymentState, TaxLocale};

pub(super) fn life_cycle(life_cycle: LifeCycle) -> &'static str {
    match life_cycle {
        LifeCycle::Managed => "MANAGED",
        LifeCycle::Unmanaged => "UNMANAGED",
    }
}

pub(super) fn tax_locale(tax_locale: TaxLocale) -> &'static str {
    match tax_locale {
        TaxLocale::Net => "Net",
        TaxLocale::Gross => "Gross",
    }
}

pub(super) fn line_kind(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Product => "product",
        LineKind::DeliveryCharge => "delivery_charge",
        LineKind::Fee => "fee",
        LineKind::Difference => "difference",
    }
}

pub(super) fn payment_state(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Unknown => "unknown",
        PaymentState::Authorised => "authorised",
        PaymentState::Captured => "captured",
    }
}

/// The id of a summary in the tables' OMSs, by its row's number.
pub(super) fn summary_id(id: i64) -> String {
    format!("OS-{id}")
}
