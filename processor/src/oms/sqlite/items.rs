//! The lines of an order, several rows a statement, for fewer statements are cheaper than more.

use forebay_order::summary::Line;
use rusqlite::{CachedStatement, Connection};

use super::rows::text;
use crate::oms::words::line_kind;

/// Rows of one statement at most.
const ROWS: usize = 8;

const INSERT: &str = "INSERT INTO order_item_summary (order_summary_id, line_number, type, \
             order_delivery_group_summary_id, product_code, name, quantity, unit_price, \
             total_line_amount) VALUES ";
const ROW: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Statements for one row, two, and so on, each prepared when it is first needed.
pub(super) struct Items<'c> {
    connection: &'c Connection,
    statements: [Option<CachedStatement<'c>>; ROWS],
}

impl<'c> Items<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, statements: [const { None }; ROWS] }
    }

    /// Inserts lines, each with the number of its delivery group.
    pub(super) fn insert(
        &mut self,
        order: i64,
        lines: &[(&Line, Option<i64>)],
    ) -> rusqlite::Result<()> {
        for some in lines.chunks(ROWS) {
            let statement = self.statement(some.len())?;
            let mut places = 1..;
            let mut place = || places.next().unwrap_or_default();
            for (line, delivery) in some {
                statement.raw_bind_parameter(place(), order)?;
                statement.raw_bind_parameter(place(), line.number)?;
                statement.raw_bind_parameter(place(), line_kind(line.kind))?;
                statement.raw_bind_parameter(place(), delivery)?;
                statement.raw_bind_parameter(place(), &line.product_code)?;
                statement.raw_bind_parameter(place(), &line.name)?;
                statement.raw_bind_parameter(place(), text(&line.quantity))?;
                statement.raw_bind_parameter(place(), text(&line.unit_price))?;
                statement.raw_bind_parameter(place(), text(&line.line_amount))?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }

    /// The one for so many rows, at most [`ROWS`].
    fn statement(&mut self, rows: usize) -> rusqlite::Result<&mut CachedStatement<'c>> {
        let slot = self.statements.get_mut(rows.saturating_sub(1));
        let slot = slot.ok_or(rusqlite::Error::InvalidQuery)?;
        match slot {
            Some(statement) => Ok(statement),
            None => {
                let all = vec![ROW; rows].join(", ");
                Ok(slot.insert(self.connection.prepare_cached(&format!("{INSERT}{all}"))?))
            }
        }
    }
}
