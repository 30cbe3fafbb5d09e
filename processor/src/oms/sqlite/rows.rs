//! The rows of one order summary.

use std::borrow::Cow;

use forebay_order::summary::{Address, Adjustment, DeliveryGroup, Payment, Shopper, Tax};
use forebay_order::{Fingerprint, OrderSummary};
use rusqlite::{CachedStatement, Connection, params};
use rust_decimal::Decimal;

use super::items::Items;
use crate::oms::words::{life_cycle, payment_state, tax_locale};

/// The statements that insert a summary, each prepared once.
pub(super) struct Inserts<'c> {
    connection: &'c Connection,
    account: CachedStatement<'c>,
    known_account: CachedStatement<'c>,
    order: CachedStatement<'c>,
    delivery_group: CachedStatement<'c>,
    adjustment_group: CachedStatement<'c>,
    items: Items<'c>,
    item_adjustment: CachedStatement<'c>,
    item_tax: CachedStatement<'c>,
    payment: CachedStatement<'c>,
}

impl<'c> Inserts<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            account: connection.prepare_cached(ACCOUNT)?,
            known_account: connection.prepare_cached(KNOWN_ACCOUNT)?,
            order: connection.prepare_cached(ORDER_SUMMARY)?,
            delivery_group: connection.prepare_cached(DELIVERY_GROUP)?,
            adjustment_group: connection.prepare_cached(ADJUSTMENT_GROUP)?,
            items: Items::new(connection),
            item_adjustment: connection.prepare_cached(ITEM_ADJUSTMENT)?,
            item_tax: connection.prepare_cached(ITEM_TAX)?,
            payment: connection.prepare_cached(PAYMENT)?,
        })
    }

    /// Inserts every row; the summary's number, or `None` if one of that identity is there.
    pub(super) fn insert(
        &mut self,
        identity: &str,
        summary: &OrderSummary,
        committed_at_us: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let account = self.account(&summary.shopper)?;
        let order = self.order(identity, summary, account, committed_at_us)?;
        let Some(order) = order else { return Ok(None) };
        let mut deliveries = Vec::with_capacity(summary.delivery_groups.len());
        for (position, group) in (0_i64..).zip(&summary.delivery_groups) {
            deliveries.push(self.delivery_group(order, position, group)?);
        }
        let mut adjustments = Vec::with_capacity(summary.adjustment_groups.len());
        for (position, group) in (0_i64..).zip(&summary.adjustment_groups) {
            self.adjustment_group.execute(params![order, position, group.name])?;
            adjustments.push(self.connection.last_insert_rowid());
        }
        let mut alone = Vec::with_capacity(summary.lines.len());
        for line in &summary.lines {
            let delivery = line.delivery_group.and_then(|at| deliveries.get(at)).copied();
            if line.adjustments.is_empty() && line.taxes.is_empty() {
                alone.push((line, delivery));
                continue;
            }
            self.items.insert(order, &std::mem::take(&mut alone))?;
            self.items.insert(order, &[(line, delivery)])?;
            let item = self.connection.last_insert_rowid();
            for (position, adjustment) in (0_i64..).zip(&line.adjustments) {
                let group = adjustment.group.and_then(|at| adjustments.get(at));
                self.item_adjustment(item, position, group.copied(), adjustment)?;
            }
            for (position, tax) in (0_i64..).zip(&line.taxes) {
                self.item_tax(item, position, tax)?;
            }
        }
        self.items.insert(order, &alone)?;
        for (position, payment) in (0_i64..).zip(&summary.payments) {
            self.payment(order, position, payment)?;
        }
        Ok(Some(order))
    }

    /// The account of the shopper's normalised e-mail, found or created; `None` without e-mail.
    fn account(&mut self, shopper: &Shopper) -> rusqlite::Result<Option<i64>> {
        let Some(email) = &shopper.email_normalised else { return Ok(None) };
        let inserted = self.account.execute(params![
            email,
            shopper.company.is_none(),
            shopper.name,
            shopper.email,
            shopper.first_name,
            shopper.last_name,
            shopper.company,
            shopper.phone,
            shopper.customer_id,
        ])?;
        if inserted > 0 {
            return Ok(Some(self.connection.last_insert_rowid()));
        }
        self.known_account.query_row([email], |row| row.get(0)).map(Some)
    }

    fn order(
        &mut self,
        identity: &str,
        summary: &OrderSummary,
        account: Option<i64>,
        committed_at_us: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let (shopper, totals, stated) = (&summary.shopper, &summary.totals, &summary.stated);
        let none = Address::default();
        let billing = summary.billing.as_ref().unwrap_or(&none);
        let oddities = serde_json::to_string(&summary.oddities)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let inserted = self.order.execute(params![
            identity,
            summary.fingerprint.0,
            Fingerprint::VERSION,
            summary.order_number,
            life_cycle(summary.life_cycle),
            summary.currency.code(),
            tax_locale(summary.tax_locale),
            summary.ordered_date_text,
            summary.ordered_date_ms,
            account,
            shopper.email_normalised,
            shopper.email,
            shopper.name,
            shopper.first_name,
            shopper.last_name,
            shopper.company,
            shopper.phone,
            shopper.customer_id,
            summary.billing.is_some(),
            billing.name,
            billing.company,
            billing.address1,
            billing.address2,
            billing.city,
            billing.postal_code,
            billing.state,
            billing.country,
            billing.phone,
            text(&totals.product),
            text(&totals.delivery),
            text(&totals.fee),
            text(&totals.line_adjustment),
            text(&totals.header_adjustment),
            text(&totals.total_amount),
            text(&totals.total_tax_amount),
            text(&totals.grand_total),
            stated.grand_total.as_ref().map(text),
            stated.tax_total.as_ref().map(text),
            stated.shipping_total.as_ref().map(text),
            stated.discount_total.as_ref().map(text),
            text(&summary.difference),
            oddities,
            committed_at_us,
        ])?;
        Ok((inserted > 0).then(|| self.connection.last_insert_rowid()))
    }

    fn delivery_group(
        &mut self,
        order: i64,
        position: i64,
        group: &DeliveryGroup,
    ) -> rusqlite::Result<i64> {
        let none = Address::default();
        let address = group.address.as_ref().unwrap_or(&none);
        self.delivery_group.execute(params![
            order,
            position,
            group.shipment_id,
            group.method,
            group.address.is_some(),
            address.name,
            address.company,
            address.address1,
            address.address2,
            address.city,
            address.postal_code,
            address.state,
            address.country,
            address.phone,
        ])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn item_adjustment(
        &mut self,
        item: i64,
        position: i64,
        group: Option<i64>,
        adjustment: &Adjustment,
    ) -> rusqlite::Result<()> {
        self.item_adjustment
            .execute(params![
                item,
                position,
                group,
                adjustment.name,
                text(&adjustment.amount),
                text(&adjustment.tax),
            ])
            .map(drop)
    }

    fn item_tax(&mut self, item: i64, position: i64, tax: &Tax) -> rusqlite::Result<()> {
        self.item_tax
            .execute(params![
                item,
                position,
                tax.name,
                tax.rate.as_ref().map(text),
                text(&tax.amount)
            ])
            .map(drop)
    }

    fn payment(&mut self, order: i64, position: i64, payment: &Payment) -> rusqlite::Result<()> {
        self.payment
            .execute(params![
                order,
                position,
                payment.method,
                payment.amount.as_ref().map(text),
                payment_state(payment.state),
                payment.reference,
            ])
            .map(drop)
    }
}

const ACCOUNT: &str = "INSERT INTO account (email_normalised, is_person_account, name, person_email, \
             first_name, last_name, company, phone, customer_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (email_normalised) DO NOTHING";

const KNOWN_ACCOUNT: &str = "SELECT id FROM account WHERE email_normalised = ?1";

const ORDER_SUMMARY: &str = "INSERT INTO order_summary (
    external_reference_identifier, fingerprint, fingerprint_version, order_number,
    order_life_cycle_type, currency_iso_code, tax_locale_type, ordered_date_text, ordered_date_ms,
    account_id, shopper_email_normalised, billing_email_address, shopper_name, shopper_first_name,
    shopper_last_name, shopper_company, billing_phone_number, shopper_customer_id, has_billing,
    billing_name, billing_company, billing_address1, billing_address2, billing_city,
    billing_postal_code, billing_state, billing_country, billing_address_phone,
    total_product_amount, total_delivery_amount, total_fee_amount, total_line_adjustment_amount,
    total_adj_dist_amount, total_amount, total_tax_amount, grand_total_amount, stated_grand_total,
    stated_tax_total, stated_shipping_total, stated_discount_total, difference, oddities,
    committed_at_us)
VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (external_reference_identifier) DO NOTHING";

const DELIVERY_GROUP: &str = "INSERT INTO order_delivery_group_summary (order_summary_id, position, shipment_id, \
             order_delivery_method, has_address, deliver_to_name, deliver_to_company, \
             deliver_to_address1, deliver_to_address2, deliver_to_city, deliver_to_postal_code, \
             deliver_to_state, deliver_to_country, phone_number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

const ADJUSTMENT_GROUP: &str = "INSERT INTO order_adjustment_group_summary (order_summary_id, position, name) \
                 VALUES (?1, ?2, ?3)";

const ITEM_ADJUSTMENT: &str = "INSERT INTO order_item_adjustment_line_summary (order_item_summary_id, position, \
             order_adjustment_group_summary_id, name, amount, total_tax_amount) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const ITEM_TAX: &str = "INSERT INTO order_item_tax_line_item_summary (order_item_summary_id, position, name, \
             rate, amount) VALUES (?1, ?2, ?3, ?4, ?5)";

const PAYMENT: &str = "INSERT INTO order_payment_summary (order_summary_id, position, method, amount, state, \
             gateway_reference) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Money and quantities as decimal text, with the digits they have. Most of an order's amounts are zero.
pub(super) fn text(decimal: &Decimal) -> Cow<'static, str> {
    match decimal.is_zero() && decimal.scale() == 0 && decimal.is_sign_positive() {
        true => Cow::Borrowed("0"),
        false => Cow::Owned(decimal.to_string()),
    }
}
