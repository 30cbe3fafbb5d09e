//! XML read safely: tokens, documents of many items, and a small tree for one item.
//!
//! Layers, bottom up:
//!
//! - [`tokens`]: one well-formed token after another. A document type definition or an entity other
//!   than the five predefined ones is refused and never expanded; an element's namespace prefix is
//!   dropped, so that a prefix bound outside an item does not matter once the item stands alone.
//! - `grammar`: what XML says of tags, names and characters, under the tokens.
//! - [`document`]: one pass over a whole body, which finds the items, checks them against the
//!   limits, fingerprints them, and lets a format pick the few facts that the door must know.
//! - [`cards`]: card data in an item, to be masked.
//! - [`tree`]: one item as elements, for the summary.
//!
//! A fault that leaves the tags intact (a bad reference, a byte that is not UTF-8, an attribute
//! given twice, too deep) condemns its item only; the others stand. One that does not (a tag not
//! closed, a document type definition) condemns the document.

pub(crate) mod cards;
pub(crate) mod document;
mod grammar;
mod item;
mod place;
pub(crate) mod tokens;
pub(crate) mod tree;

use crate::UnreadableKind;

/// What is wrong, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: UnreadableKind,
    pub(crate) at: usize,
    pub(crate) message: &'static str,
}

impl Fault {
    pub(crate) fn new(kind: UnreadableKind, at: usize, message: &'static str) -> Self {
        Self { kind, at, message }
    }
}
