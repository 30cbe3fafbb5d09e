//! The rows of one order summary.

use forebay_order::summary::{Address, Adjustment, DeliveryGroup, Line, Payment, Shopper, Tax};
use forebay_order::{Fingerprint, OrderSummary};
use rusqlite::{Connection, OptionalExtension, named_params, params};
use rust_decimal::Decimal;

use crate::oms::words::{life_cycle, line_kind, payment_state, tax_locale};

/// Inserts every row; returns the summary's number.
pub(super) fn insert(
    connection: &Connection,
    identity: &str,
    summary: &OrderSummary,
    committed_at_us: i64,
) -> rusqlite::Result<i64> {
    let account = account(connection, &summary.shopper)?;
    let order = order_summary(connection, identity, summary, account, committed_at_us)?;
    let mut deliveries = Vec::with_capacity(summary.delivery_groups.len());
    for (position, group) in (0_i64..).zip(&summary.delivery_groups) {
        deliveries.push(delivery_group(connection, order, position, group)?);
    }
    let mut adjustments = Vec::with_capacity(summary.adjustment_groups.len());
    for (position, group) in (0_i64..).zip(&summary.adjustment_groups) {
        connection
            .prepare_cached(
                "INSERT INTO order_adjustment_group_summary (order_summary_id, position, name) \
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![order, position, group.name])?;
        adjustments.push(connection.last_insert_rowid());
    }
    for line in &summary.lines {
        let delivery = line.delivery_group.and_then(|at| deliveries.get(at));
        let item = item(connection, order, delivery.copied(), line)?;
        for (position, adjustment) in (0_i64..).zip(&line.adjustments) {
            let group = adjustment.group.and_then(|at| adjustments.get(at));
            item_adjustment(connection, item, position, group.copied(), adjustment)?;
        }
        for (position, tax) in (0_i64..).zip(&line.taxes) {
            item_tax(connection, item, position, tax)?;
        }
    }
    for (position, payment) in (0_i64..).zip(&summary.payments) {
        self::payment(connection, order, position, payment)?;
    }
    Ok(order)
}

/// The account of the shopper's normalised e-mail, found or created; `None` without e-mail.
fn account(connection: &Connection, shopper: &Shopper) -> rusqlite::Result<Option<i64>> {
    let Some(email) = &shopper.email_normalised else { return Ok(None) };
    let found = connection
        .prepare_cached("SELECT id FROM account WHERE email_normalised = ?1")?
        .query_row([email], |row| row.get(0))
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    connection
        .prepare_cached(
            "INSERT INTO account (email_normalised, is_person_account, name, person_email, \
             first_name, last_name, company, phone, customer_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
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
    Ok(Some(connection.last_insert_rowid()))
}

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
    :identity, :fingerprint, :fingerprint_version, :order_number, :life_cycle, :currency,
    :tax_locale, :ordered_date_text, :ordered_date_ms, :account, :email_normalised, :email, :name,
    :first_name, :last_name, :company, :phone, :customer_id, :has_billing, :billing_name,
    :billing_company, :billing_address1, :billing_address2, :billing_city, :billing_postal_code,
    :billing_state, :billing_country, :billing_phone, :product, :delivery, :fee, :line_adjustment,
    :header_adjustment, :total_amount, :total_tax_amount, :grand_total, :stated_grand_total,
    :stated_tax_total, :stated_shipping_total, :stated_discount_total, :difference, :oddities,
    :committed_at_us)";

fn order_summary(
    connection: &Connection,
    identity: &str,
    summary: &OrderSummary,
    account: Option<i64>,
    committed_at_us: i64,
) -> rusqlite::Result<i64> {
    let (shopper, totals, stated) = (&summary.shopper, &summary.totals, &summary.stated);
    let none = Address::default();
    let billing = summary.billing.as_ref().unwrap_or(&none);
    let oddities = serde_json::to_string(&summary.oddities)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.prepare_cached(ORDER_SUMMARY)?.execute(named_params! {
        ":identity": identity,
        ":fingerprint": summary.fingerprint.0,
        ":fingerprint_version": Fingerprint::VERSION,
        ":order_number": summary.order_number,
        ":life_cycle": life_cycle(summary.life_cycle),
        ":currency": summary.currency.code(),
        ":tax_locale": tax_locale(summary.tax_locale),
        ":ordered_date_text": summary.ordered_date_text,
        ":ordered_date_ms": summary.ordered_date_ms,
        ":account": account,
        ":email_normalised": shopper.email_normalised,
        ":email": shopper.email,
        ":name": shopper.name,
        ":first_name": shopper.first_name,
        ":last_name": shopper.last_name,
        ":company": shopper.company,
        ":phone": shopper.phone,
        ":customer_id": shopper.customer_id,
        ":has_billing": summary.billing.is_some(),
        ":billing_name": billing.name,
        ":billing_company": billing.company,
        ":billing_address1": billing.address1,
        ":billing_address2": billing.address2,
        ":billing_city": billing.city,
        ":billing_postal_code": billing.postal_code,
        ":billing_state": billing.state,
        ":billing_country": billing.country,
        ":billing_phone": billing.phone,
        ":product": text(&totals.product),
        ":delivery": text(&totals.delivery),
        ":fee": text(&totals.fee),
        ":line_adjustment": text(&totals.line_adjustment),
        ":header_adjustment": text(&totals.header_adjustment),
        ":total_amount": text(&totals.total_amount),
        ":total_tax_amount": text(&totals.total_tax_amount),
        ":grand_total": text(&totals.grand_total),
        ":stated_grand_total": stated.grand_total.as_ref().map(text),
        ":stated_tax_total": stated.tax_total.as_ref().map(text),
        ":stated_shipping_total": stated.shipping_total.as_ref().map(text),
        ":stated_discount_total": stated.discount_total.as_ref().map(text),
        ":difference": text(&summary.difference),
        ":oddities": oddities,
        ":committed_at_us": committed_at_us,
    })?;
    Ok(connection.last_insert_rowid())
}

fn delivery_group(
    connection: &Connection,
    order: i64,
    position: i64,
    group: &DeliveryGroup,
) -> rusqlite::Result<i64> {
    let none = Address::default();
    let address = group.address.as_ref().unwrap_or(&none);
    connection
        .prepare_cached(
            "INSERT INTO order_delivery_group_summary (order_summary_id, position, shipment_id, \
             order_delivery_method, has_address, deliver_to_name, deliver_to_company, \
             deliver_to_address1, deliver_to_address2, deliver_to_city, deliver_to_postal_code, \
             deliver_to_state, deliver_to_country, phone_number) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
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
    Ok(connection.last_insert_rowid())
}

fn item(
    connection: &Connection,
    order: i64,
    delivery: Option<i64>,
    line: &Line,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO order_item_summary (order_summary_id, line_number, type, \
             order_delivery_group_summary_id, product_code, name, quantity, unit_price, \
             total_line_amount) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            order,
            line.number,
            line_kind(line.kind),
            delivery,
            line.product_code,
            line.name,
            text(&line.quantity),
            text(&line.unit_price),
            text(&line.line_amount),
        ])?;
    Ok(connection.last_insert_rowid())
}

fn item_adjustment(
    connection: &Connection,
    item: i64,
    position: i64,
    group: Option<i64>,
    adjustment: &Adjustment,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO order_item_adjustment_line_summary (order_item_summary_id, position, \
             order_adjustment_group_summary_id, name, amount, total_tax_amount) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
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

fn item_tax(connection: &Connection, item: i64, position: i64, tax: &Tax) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO order_item_tax_line_item_summary (order_item_summary_id, position, name, \
             rate, amount) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![item, position, tax.name, tax.rate.as_ref().map(text), text(&tax.amount)])
        .map(drop)
}

fn payment(
    connection: &Connection,
    order: i64,
    position: i64,
    payment: &Payment,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO order_payment_summary (order_summary_id, position, method, amount, state, \
             gateway_reference) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
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

/// Money and quantities as decimal text, with the digits they have.
fn text(decimal: &Decimal) -> String {
    decimal.to_string()
}
