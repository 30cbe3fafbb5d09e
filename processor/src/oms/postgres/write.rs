//! One call as one transaction, each table of it by one statement.
//!
//! Accounts, then orders, whoever is there already left out by the database itself; then what belongs to those that are new. All
//! go in by the order of their keys, so that two calls that share some wait for each other and do not block each other for good.

use std::sync::Arc;

use deadpool_postgres::{GenericClient, Object, Transaction};
use forebay_buffer::step::Step;
use forebay_order::OrderSummary;
use futures_util::try_join;
use hashbrown::HashMap;
use tokio_postgres::Row;

use super::columns::{Rows, Table};
use super::fault::{Fault, at_commit};
use super::{read, rows};
use crate::oms::refuse::refuse;
use crate::oms::words::summary_id;
use crate::oms::{CallFailure, Outcome};

/// Of the rows that were inserted into a table of groups: order, position, number.
type Groups = HashMap<(i64, i32), i64>;

/// One order of a call.
struct Asked<'a> {
    summary: &'a OrderSummary,
    identity: String,
    oddities: String,
}

/// Creates the batch's summaries.
///
/// # Errors
/// [`CallFailure`], with nothing done, but for [`CallFailure::Unknown`], where the commit was not answered.
pub(super) async fn submit(
    client: &mut Object,
    batch: &[Arc<OrderSummary>],
    committed_at_us: i64,
) -> Result<Vec<Outcome>, CallFailure> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(batch.len());
    let mut asked = Vec::with_capacity(batch.len());
    for (at, summary) in batch.iter().enumerate() {
        let identity = summary.key.identity();
        let refused = refuse(&identity, summary).map(|refused| Outcome::Invalid {
            code: refused.code.to_owned(),
            reason: refused.reason,
        });
        if refused.is_none() {
            let oddities = serde_json::to_string(&summary.oddities).unwrap_or_default();
            asked.push((at, Asked { summary, identity, oddities }));
        }
        outcomes.push(refused);
    }
    asked.sort_by(|(_, one), (_, other)| one.identity.cmp(&other.identity));
    let (places, asked): (Vec<usize>, Vec<Asked<'_>>) = asked.into_iter().unzip();
    let created = match create(client, &asked, committed_at_us).await {
        Ok(created) => created,
        // The server does not say which one it is, and the others are not to suffer for it.
        Err(Fault::Order { .. }) if asked.len() > 1 => {
            one_by_one(client, &asked, committed_at_us).await?
        }
        Err(Fault::Order { code, reason }) => {
            vec![Outcome::Invalid { code: code.to_owned(), reason }]
        }
        Err(Fault::Call(failure)) => return Err(failure),
    };
    for (at, outcome) in places.into_iter().zip(created) {
        if let Some(place) = outcomes.get_mut(at) {
            *place = Some(outcome);
        }
    }
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Unknown)).collect())
}

/// Each order as a transaction of its own. Once some stand, trouble of the rest is the rest's, and no order's fault: what takes too
/// much shows by itself in the next call, where no bad order is beside it any more.
async fn one_by_one(
    client: &mut Object,
    asked: &[Asked<'_>],
    committed_at_us: i64,
) -> Result<Vec<Outcome>, CallFailure> {
    let mut outcomes = Vec::with_capacity(asked.len());
    for one in asked {
        let outcome = match create(client, std::slice::from_ref(one), committed_at_us).await {
            Ok(mut created) => created.pop().unwrap_or(Outcome::Unknown),
            Err(Fault::Order { code, reason }) => {
                Outcome::Invalid { code: code.to_owned(), reason }
            }
            Err(Fault::Call(failure)) if outcomes.is_empty() => return Err(failure),
            Err(Fault::Call(CallFailure::Unknown(_))) => Outcome::Unknown,
            Err(Fault::Call(_)) => Outcome::NotDone { after: std::time::Duration::ZERO },
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// All of them in one transaction.
async fn create(
    client: &mut Object,
    asked: &[Asked<'_>],
    committed_at_us: i64,
) -> Result<Vec<Outcome>, Fault> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = client.transaction().await?;
    let accounts = accounts(&transaction, asked).await?;
    let mut created = orders(&transaction, asked, &accounts, committed_at_us).await?;
    let mut new = Vec::with_capacity(asked.len());
    let mut outcomes = Vec::with_capacity(asked.len());
    let mut known = Vec::new();
    for one in asked {
        // Of two of one identity the first is it.
        match created.remove(&one.identity) {
            Some(id) => {
                new.push((id, one.summary));
                outcomes.push(Some(Outcome::Created { id: summary_id(id) }));
            }
            None => {
                known.push(one.identity.as_str());
                outcomes.push(None);
            }
        }
    }
    let parts = parts(&transaction, &new);
    let found = async {
        match known.is_empty() {
            true => Ok(HashMap::new()),
            false => read::existing(&transaction, &known).await.map_err(Fault::from),
        }
    };
    let ((), found) = try_join!(parts, found)?;
    transaction.commit().await.map_err(|error| at_commit(&error))?;
    Step::Committed.reached(|| true);
    let existing = |one: &Asked<'_>| {
        let Some(found) = found.get(&one.identity) else {
            // It was there a moment ago, and is not now: somebody removes rows.
            return Outcome::Retry { after: std::time::Duration::ZERO };
        };
        let same = found.fingerprint.map(|fingerprint| fingerprint == one.summary.fingerprint);
        Outcome::Existing { id: found.id.clone(), same }
    };
    let outcomes = outcomes.into_iter().zip(asked);
    Ok(outcomes.map(|(outcome, one)| outcome.unwrap_or_else(|| existing(one))).collect())
}

/// The accounts of the shoppers' normalised e-mails, found or created.
async fn accounts<'a>(
    transaction: &Transaction<'_>,
    asked: &'a [Asked<'a>],
) -> Result<HashMap<String, i64>, Fault> {
    let with_email = asked.iter().filter_map(|one| {
        let shopper = &one.summary.shopper;
        Some((shopper.email_normalised.as_deref()?, shopper))
    });
    let mut shoppers: Vec<_> = with_email.collect();
    shoppers.sort_by_key(|(email, _)| *email);
    shoppers.dedup_by_key(|(email, _)| *email);
    let mut all = rows::ACCOUNT.rows();
    shoppers.iter().for_each(|(email, shopper)| rows::account(&mut all, email, shopper));
    let mut accounts = keyed(&insert(transaction, &rows::ACCOUNT, &all).await?)?;
    let known = shoppers.iter().map(|(email, _)| *email);
    let known: Vec<_> = known.filter(|email| !accounts.contains_key(*email)).collect();
    if !known.is_empty() {
        const FIND: &str =
            "SELECT email_normalised, id FROM account WHERE email_normalised = ANY($1)";
        let statement = transaction.prepare_cached(FIND).await?;
        accounts.extend(keyed(&transaction.query(&statement, &[&known]).await?)?);
    }
    Ok(accounts)
}

/// Inserts orders; the numbers of those that were not there.
async fn orders(
    transaction: &Transaction<'_>,
    asked: &[Asked<'_>],
    accounts: &HashMap<String, i64>,
    committed_at_us: i64,
) -> Result<HashMap<String, i64>, Fault> {
    let mut all = rows::ORDER.rows();
    for Asked { summary, identity, oddities } in asked {
        let email = summary.shopper.email_normalised.as_deref();
        let account = email.and_then(|email| accounts.get(email)).copied();
        rows::order(
            &mut all,
            rows::Order { identity, summary, oddities, account, committed_at_us },
        );
    }
    keyed(&insert(transaction, &rows::ORDER, &all).await?)
}

/// Inserts all that belongs to new orders.
async fn parts(transaction: &Transaction<'_>, new: &[(i64, &OrderSummary)]) -> Result<(), Fault> {
    let (mut deliveries, mut adjustments) =
        (rows::DELIVERY_GROUP.rows(), rows::ADJUSTMENT_GROUP.rows());
    let mut payments = rows::PAYMENT.rows();
    for (order, summary) in new {
        for (at, group) in summary.delivery_groups.iter().enumerate() {
            rows::delivery_group(&mut deliveries, *order, at, group);
        }
        for (at, group) in summary.adjustment_groups.iter().enumerate() {
            rows::adjustment_group(&mut adjustments, *order, at, &group.name);
        }
        for (at, payment) in summary.payments.iter().enumerate() {
            rows::payment(&mut payments, *order, at, payment);
        }
    }
    let (deliveries, adjustments, _) = try_join!(
        insert(transaction, &rows::DELIVERY_GROUP, &deliveries),
        insert(transaction, &rows::ADJUSTMENT_GROUP, &adjustments),
        insert(transaction, &rows::PAYMENT, &payments),
    )?;
    let (deliveries, adjustments) = (numbered(&deliveries)?, numbered(&adjustments)?);
    let items = items(transaction, new, &deliveries).await?;
    let (mut shares, mut taxes) = (rows::ADJUSTMENT.rows(), rows::TAX.rows());
    for (order, summary) in new {
        for line in &summary.lines {
            let Some(item) = items.get(&(*order, rows::line_number(line))) else { continue };
            for (at, adjustment) in line.adjustments.iter().enumerate() {
                let group = of_group(&adjustments, *order, adjustment.group);
                rows::adjustment(&mut shares, *item, at, group, adjustment);
            }
            for (at, tax) in line.taxes.iter().enumerate() {
                rows::tax(&mut taxes, *item, at, tax);
            }
        }
    }
    try_join!(
        insert(transaction, &rows::ADJUSTMENT, &shares),
        insert(transaction, &rows::TAX, &taxes),
    )?;
    Ok(())
}

/// Inserts lines; their numbers, if something belongs to any of them.
async fn items(
    transaction: &Transaction<'_>,
    new: &[(i64, &OrderSummary)],
    deliveries: &Groups,
) -> Result<Groups, Fault> {
    let mut all = rows::ITEM.rows();
    let mut told = false;
    for (order, summary) in new {
        for line in &summary.lines {
            let delivery = of_group(deliveries, *order, line.delivery_group);
            rows::item(&mut all, *order, delivery, line);
            told |= !line.adjustments.is_empty() || !line.taxes.is_empty();
        }
    }
    let table = if told { &rows::ITEM_TOLD } else { &rows::ITEM };
    numbered(&insert(transaction, table, &all).await?)
}

fn of_group(groups: &Groups, order: i64, at: Option<usize>) -> Option<i64> {
    groups.get(&(order, rows::position(at?))).copied()
}

/// Inserts rows, if there are any; what the statement tells.
async fn insert(
    transaction: &Transaction<'_>,
    table: &Table,
    rows: &Rows<'_>,
) -> Result<Vec<Row>, Fault> {
    if rows.count() == 0 {
        return Ok(Vec::new());
    }
    let statement = transaction.prepare_cached(&table.insert()).await?;
    Ok(transaction.query(&statement, &rows.parameters()).await?)
}

/// Text and number of each row.
fn keyed(rows: &[Row]) -> Result<HashMap<String, i64>, Fault> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Order, position and number of each row.
fn numbered(rows: &[Row]) -> Result<Groups, Fault> {
    let one = |row: &Row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
    rows.iter().map(one).collect()
}
