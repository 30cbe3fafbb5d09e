//! From a request body to items: the ingest door's way into this crate.

use std::ops::Range;

use bytes::Bytes;
use rust_decimal::Decimal;

use crate::{Currency, Fingerprint, Format, Money, Readiness};

/// Limits on what is read; each is a clear error, never a panic or unbounded memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one item.
    pub item_bytes: usize,
    /// Items in one body.
    pub items: usize,
    /// Nesting of objects, arrays or elements.
    pub depth: usize,
    /// Lines of one order (products, charges and fees).
    pub lines: usize,
}

impl Default for Limits {
    /// 3 MiB an item, 10,000 items, depth 64, 2,000 lines (the published limit of Salesforce High-Scale Orders).
    fn default() -> Self {
        Self { item_bytes: 3 << 20, items: 10_000, depth: 64, lines: 2_000 }
    }
}

/// How one channel wants its bodies read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions<'a> {
    /// Limits to keep.
    pub limits: Limits,
    /// JSON pointer, within an item, of the text or number that names the source; JSON formats only.
    pub source_pointer: Option<&'a str>,
    /// Top-level members (JSON) or elements (XML) that never count for the fingerprint, besides the format's own.
    pub fingerprint_ignore: &'a [String],
}

/// One item of a body, read as far as the ingest door must know it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where the item stands in the body.
    pub span: Range<usize>,
    /// The sender's immutable id as text; `None` only for a recorded body that has none.
    pub id: Option<String>,
    /// The number people use; empty where the body has none.
    pub number: String,
    /// What [`ReadOptions::source_pointer`] pointed at.
    pub source: Option<String>,
    /// What the format's readiness table says.
    pub readiness: Readiness,
    /// True where the table could not place the item and took it for a sale.
    pub unplaced: bool,
    /// Source version; the larger is the newer. `None` where the format has none.
    pub version: Option<u64>,
    /// The channel's own grand total, where stated.
    pub amount: Option<Decimal>,
    /// Its currency, where stated and known.
    pub currency: Option<Currency>,
    /// The shopper's e-mail as sent; for the lookup hash only, never for logs.
    pub email: Option<String>,
    /// Number of product lines.
    pub lines: usize,
    /// Fingerprint of the content, taken before masking.
    pub fingerprint: Fingerprint,
    /// The item as received, except masked card data; shares memory with the body where nothing was masked.
    pub bytes: Bytes,
    /// Which bytes of [`Item::bytes`] were masked.
    pub masked: Vec<MaskedSpan>,
}

impl Item {
    /// Amount and currency together, where both are known.
    pub fn total(&self) -> Option<Money> {
        Some(Money { amount: self.amount?, currency: self.currency? })
    }
}

/// A run of bytes replaced by `*` because it was a card number or a card verification value. A JSON number
/// became a string of the same length, its first and last byte the quotes (`"*"` for 123); one digit became 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedSpan {
    /// First byte, counted from the start of the item.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// Why a body or an item cannot be read: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column}{})", .pointer.as_deref().map(|p| format!(", at {p:?}")).unwrap_or_default())]
pub struct Unreadable {
    /// What kind of fault it is.
    pub kind: UnreadableKind,
    /// JSON pointer of the value, counted from the item's root, where there is one.
    pub pointer: Option<String>,
    /// Line in the body, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to send instead; never a value from the body.
    pub message: String,
}

/// The kinds of [`Unreadable`], stable words for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnreadableKind {
    /// Not well-formed JSON, NDJSON or XML.
    Syntax,
    /// Not UTF-8, or a lone surrogate.
    Encoding,
    /// Nested deeper than allowed.
    Depth,
    /// A member given twice where it decides identity, money or readiness.
    DuplicateMember,
    /// More bytes, items or lines than allowed.
    TooLarge,
    /// A value of the wrong type, or an amount that is none.
    Value,
    /// No immutable id where an order needs one.
    MissingId,
    /// A document type definition or entity, which is never read.
    Dtd,
}

impl UnreadableKind {
    /// The word in problem documents, metrics and exceptions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Encoding => "encoding",
            Self::Depth => "depth",
            Self::DuplicateMember => "duplicate_member",
            Self::TooLarge => "too_large",
            Self::Value => "value",
            Self::MissingId => "missing_id",
            Self::Dtd => "dtd",
        }
    }
}

/// Reads a whole (inflated) body: one item, a JSON array, NDJSON, a REST wrapper, a graphs request or
/// multi-order XML, as the format has it.
///
/// The outer error means the body as a whole could not be taken apart; an inner one condemns only its
/// item, and the others stand. Items come in the order of the document, at least one.
///
/// # Errors
/// [`Unreadable`] with the place and the reason.
pub fn read(
    format: Format,
    body: &Bytes,
    options: &ReadOptions<'_>,
) -> Result<Vec<ItemResult>, Unreadable> {
    format.read(body, options)
}

/// One item, or why it cannot be read.
pub type ItemResult = Result<Item, Unreadable>;
