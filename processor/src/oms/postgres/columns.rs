//! Rows of one table as columns, so that one statement inserts them all: `INSERT ... SELECT * FROM unnest($1, $2, ...)`.

use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Bool,
    Small,
    Int,
    Big,
    Numeric,
}

impl Type {
    fn array(self) -> &'static str {
        match self {
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
            Self::Bool => "boolean[]",
            Self::Small => "smallint[]",
            Self::Int => "integer[]",
            Self::Big => "bigint[]",
            Self::Numeric => "numeric[]",
        }
    }
}

/// A table, and the columns that are inserted.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Type)],
    /// What follows the rows: what is done about a conflict, and what is told.
    pub(super) then: &'static str,
}

impl Table {
    /// The statement that inserts any number of rows.
    pub(super) fn insert(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let arrays =
            (1..).zip(self.columns).map(|(n, (_, kind))| format!("${n}::{}", kind.array()));
        let arrays: Vec<_> = arrays.collect();
        let (name, then) = (self.name, self.then);
        let (names, arrays) = (names.join(", "), arrays.join(", "));
        format!("INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays}) {then}")
    }

    /// No rows yet.
    pub(super) fn rows<'a>(&self) -> Rows<'a> {
        let columns = self.columns.iter().map(|(_, kind)| Column::of(*kind)).collect();
        Rows { columns, at: 0, count: 0 }
    }
}

/// Rows of a table, column by column.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    columns: Vec<Column<'a>>,
    /// The column that comes next.
    at: usize,
    count: usize,
}

#[derive(Debug)]
enum Column<'a> {
    Text(Vec<Option<&'a str>>),
    Bytes(Vec<&'a [u8]>),
    Bool(Vec<bool>),
    Small(Vec<i16>),
    Int(Vec<i32>),
    Big(Vec<Option<i64>>),
    Numeric(Vec<Option<Decimal>>),
}

impl Column<'_> {
    fn of(kind: Type) -> Self {
        match kind {
            Type::Text => Self::Text(Vec::new()),
            Type::Bytes => Self::Bytes(Vec::new()),
            Type::Bool => Self::Bool(Vec::new()),
            Type::Small => Self::Small(Vec::new()),
            Type::Int => Self::Int(Vec::new()),
            Type::Big => Self::Big(Vec::new()),
            Type::Numeric => Self::Numeric(Vec::new()),
        }
    }
}

/// The next value of a row. One that does not fit its column is left out, and the statement then fails for its uneven arrays.
macro_rules! push {
    ($name:ident, $column:ident, $value:ty) => {
        pub(super) fn $name(&mut self, value: $value) -> &mut Self {
            if let Some(Column::$column(column)) = self.columns.get_mut(self.at) {
                column.push(value);
            }
            self.at += 1;
            self
        }
    };
}

impl<'a> Rows<'a> {
    push!(text, Text, Option<&'a str>);
    push!(bytes, Bytes, &'a [u8]);
    push!(bool, Bool, bool);
    push!(small, Small, i16);
    push!(int, Int, i32);
    push!(big, Big, Option<i64>);
    push!(numeric, Numeric, Option<Decimal>);

    /// The row is whole.
    pub(super) fn end(&mut self) {
        debug_assert_eq!(self.at, self.columns.len(), "every column has a value");
        self.at = 0;
        self.count += 1;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The parameters of [`Table::insert`].
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.columns.iter().map(Column::parameter).collect()
    }
}

impl Column<'_> {
    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(column) => column,
            Self::Bytes(column) => column,
            Self::Bool(column) => column,
            Self::Small(column) => column,
            Self::Int(column) => column,
            Self::Big(column) => column,
            Self::Numeric(column) => column,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_inserts_all_rows() {
        let table = Table {
            name: "t",
            columns: &[("a", Type::Text), ("b", Type::Big)],
            then: "RETURNING id",
        };
        let expected =
            "INSERT INTO t (a, b) SELECT * FROM unnest($1::text[], $2::bigint[]) RETURNING id";
        assert_eq!(table.insert(), expected);
        let mut rows = table.rows();
        rows.text(Some("x")).big(None).end();
        rows.text(None).big(Some(7)).end();
        assert_eq!((rows.count(), rows.parameters().len()), (2, 2));
        let shown = format!("{rows:?}");
        assert!(
            shown.contains("[Some(\"x\"), None]") && shown.contains("[None, Some(7)]"),
            "{shown}"
        );
    }
}
