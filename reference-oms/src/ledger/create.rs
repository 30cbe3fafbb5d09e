//! A create call: one transaction, answered after its commit.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::note::whole;
use crate::clock::millis_us;
use crate::faults::Faults;
use crate::hash::fnv;
use crate::order::{Order, Outcome};

/// When an order exists that is refused later.
pub(crate) const NEVER_US: i64 = i64::MAX;

/// A create call, with what was decided before it came to the ledger.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) call: i64,
    pub(crate) orders: Vec<Order>,
    /// Which of them are told to come again.
    pub(crate) later: Vec<bool>,
    /// The caller's key and a hash of the body, where keys are honoured.
    pub(crate) key: Option<(String, u64)>,
    pub(crate) faults: std::sync::Arc<Faults>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Now(Vec<Outcome>),
    /// The first answer under its key.
    Before(Vec<Outcome>),
    /// Its key had been used for something else.
    KeyReused,
}

/// Does it within the transaction; `next` is the number of the next create, and moves on.
pub(super) fn create(
    to: &Transaction<'_>,
    create: &Create,
    now_us: i64,
    next: &mut i64,
) -> rusqlite::Result<Created> {
    if let Some((key, body)) = &create.key {
        let mut first =
            to.prepare_cached("SELECT body, outcomes FROM first_answers WHERE key = ?")?;
        let first =
            first.query_row([key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
        if let Some((first_body, outcomes)) = first.optional()? {
            // The same bits, signed as SQLite keeps them.
            if body.cast_signed() != first_body {
                return Ok(Created::KeyReused);
            }
            let outcomes = serde_json::from_str(&outcomes)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            batch(to, create, now_us, &[], 1)?;
            return Ok(Created::Before(outcomes));
        }
    }
    let mut outcomes = Vec::with_capacity(create.orders.len());
    for (index, order) in create.orders.iter().enumerate() {
        let later = create.later.get(index).copied().unwrap_or(false);
        outcomes.push(one(to, create, order, later, now_us, next)?);
    }
    batch(to, create, now_us, &outcomes, 0)?;
    let again = outcomes.iter().any(|outcome| matches!(outcome, Outcome::TryLater { .. }));
    // What is to be tried again must not get the same answer for ever.
    if let (Some((key, body)), false) = (&create.key, again) {
        let outcomes = serde_json::to_string(&outcomes)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        to.prepare_cached("INSERT INTO first_answers VALUES (?, ?, ?)")?.execute(params![
            key,
            body.cast_signed(),
            outcomes
        ])?;
    }
    Ok(Created::Now(outcomes))
}

fn one(
    to: &Transaction<'_>,
    create: &Create,
    order: &Order,
    later: bool,
    now_us: i64,
    next: &mut i64,
) -> rusqlite::Result<Outcome> {
    let faults = &create.faults;
    // Validation comes before uniqueness, as it does in real ones: a repeat of an order that exists is refused too.
    if let Some(code) = &faults.reject_all_with {
        let message = "a validation rule refuses every order".to_owned();
        return Ok(Outcome::Invalid { code: code.clone(), message });
    }
    if faults.invalid_every.is_some_and(|n| fnv(order.identity.as_bytes()).is_multiple_of(n.get()))
    {
        let message = "this order is one that is refused".to_owned();
        return Ok(Outcome::Invalid { code: "FIELD_INVALID".to_owned(), message });
    }
    if later {
        return Ok(Outcome::TryLater { after_s: faults.try_later_s });
    }
    if faults.unique {
        let mut first = to.prepare_cached(
            "SELECT id, fingerprint, exists_us, ticket FROM creates WHERE identity = ? AND exists_us <> ? ORDER BY seq LIMIT 1",
        )?;
        // One that is refused never was there, and may come again.
        let first = first.query_row(params![order.identity, NEVER_US], |row| {
            let existing = Outcome::Existing { id: row.get(0)?, fingerprint: row.get(1)? };
            match row.get::<_, Option<String>>(3)? {
                Some(ticket) if row.get::<_, i64>(2)? > now_us => Ok(Outcome::Accepted { ticket }),
                _ => Ok(existing),
            }
        });
        if let Some(known) = first.optional()? {
            return Ok(known);
        }
    }
    let seq = *next;
    *next += 1;
    let id = format!("SO-{seq:010}");
    let ticket = faults.async_after_ms.map(|_| format!("TK-{seq:010}"));
    let hash = fnv(order.identity.as_bytes());
    let refused = faults.async_refuse_all
        || faults.async_refuse_every.is_some_and(|n| hash.is_multiple_of(n.get()));
    let exists_us = match ticket.is_some() && refused {
        true => NEVER_US,
        false => now_us.saturating_add(millis_us(faults.async_after_ms.unwrap_or(0))),
    };
    let mut insert =
        to.prepare_cached("INSERT INTO creates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    insert.execute(params![
        seq,
        create.call,
        now_us,
        exists_us,
        order.identity,
        order.fingerprint,
        id,
        ticket,
        order.grand_total,
        order.currency
    ])?;
    Ok(match ticket {
        Some(ticket) => Outcome::Accepted { ticket },
        None => Outcome::Created { id },
    })
}

fn batch(
    to: &Transaction<'_>,
    create: &Create,
    now_us: i64,
    outcomes: &[Outcome],
    replayed: i64,
) -> rusqlite::Result<()> {
    let count = |is: fn(&Outcome) -> bool| whole(outcomes.iter().filter(|o| is(o)).count());
    let mut insert = to.prepare_cached("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    insert.execute(params![
        create.call,
        now_us,
        whole(create.orders.len()),
        count(|outcome| matches!(outcome, Outcome::Created { .. })),
        count(|outcome| matches!(outcome, Outcome::Existing { .. })),
        count(|outcome| matches!(outcome, Outcome::Invalid { .. })),
        count(|outcome| matches!(outcome, Outcome::TryLater { .. })),
        count(|outcome| matches!(outcome, Outcome::Accepted { .. })),
        replayed
    ])?;
    Ok(())
}
