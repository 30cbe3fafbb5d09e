//! JSON bodies, for every JSON format: taken apart into items, checked strictly (RFC 8259), decoded with
//! every digit, fingerprinted, and masked.
//!
//! A format implements [`JsonFormat`]: the shape of its bodies, the type its items decode to, and what
//! the ingest door must know of one. [`read`] does the rest at the door; [`decode`] gives the same type
//! again, later, from an item's kept bytes.
//!
//! # Numbers
//! A decoder that knows numbers would turn decimals into floats. The lexical pass therefore records where
//! each value stands, and the typed decoder gives every number as the text it is written in. [`Text`] and
//! [`Amount`] so take `123` and `"123"` alike, ids above 2^53 and amounts of any length stay exact, and
//! nothing passes a float.
//!
//! # Members given twice
//! One rule for every parser here: a member that a format reads must not be there twice in its object
//! ([`UnreadableKind::DuplicateMember`](crate::UnreadableKind)), whatever the two hold; what nobody reads
//! may. So no two readers can see two different orders in the same bytes, and the fingerprint covers
//! both copies in any case.
//!
//! # NUL and surrogates
//! `\u0000` is valid JSON: it is kept in the bytes, and a typed text carries U+0000 as it is. Nothing is
//! replaced here; whoever writes to a store that refuses it (PostgreSQL) must refuse or encode it there.
//! Only an identity may not hold a control character. Half a surrogate pair is no text at all and refused.
//!
//! # Fingerprint
//! BLAKE3, cut to 16 bytes, over the item's minified text: its tokens as written, blanks outside strings
//! removed, without the volatile top-level members. Two different token streams never have the same
//! minified text.

mod decode;
mod fault;
mod field;
mod frame;
mod lex;
mod masking;
mod path;
mod place;
mod tape;
#[cfg(test)]
mod tests;
mod token;

use std::cell::RefCell;
use std::ops::Range;

use bytes::Bytes;
use rust_decimal::Decimal;
use serde::Deserialize;

pub(crate) use fault::Fault;
pub(crate) use field::{Amount, Flag, Label, Labels, List, LooseList, Obj, Present, Text};

use crate::mask;
use crate::read::ItemResult;
use crate::{
    Currency, Fingerprint, Item, Limits, ReadOptions, Readiness, Unreadable, UnreadableKind,
};
use fault::Place as FaultPlace;
use frame::{Framed, Framer, Sink};
use lex::{Lexer, Rules};
use place::Place;
use tape::RECORDED_MAX;

/// The nesting no configuration may exceed, so that typed decoders, which recurse, are safe.
const DEPTH_CEILING: usize = 128;

/// Scratch memory above this is given back after a large item.
const SCRATCH_KEPT: usize = 256 << 10;

/// What a format's bodies look like.
pub(crate) struct Shape {
    /// Members of a wrapper object that hold an item or the list of items (`order`, `orders`, `data`).
    pub(crate) wrappers: &'static [&'static str],
    /// The top-level member that only an item has, never a wrapper.
    pub(crate) id: &'static str,
    /// Top-level members that change though the order does not; they do not count for the fingerprint.
    pub(crate) volatile: &'static [&'static str],
    /// Values in which card data is masked: JSON pointers within an item, where `*` is any one step and
    /// a last `**` any number of steps, none included.
    pub(crate) masked: &'static [&'static str],
}

/// What the ingest door must know of an item; the rest of [`Item`] is the JSON module's.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Option<String>,
    pub(crate) number: String,
    pub(crate) readiness: Readiness,
    pub(crate) unplaced: bool,
    pub(crate) version: Option<u64>,
    pub(crate) amount: Option<Decimal>,
    pub(crate) currency: Option<Currency>,
    pub(crate) email: Option<String>,
    pub(crate) products: usize,
    /// All lines: products, delivery charges and fees.
    pub(crate) lines: usize,
}

impl Facts {
    /// An item of which nothing is known but what it is.
    pub(crate) fn only(readiness: Readiness) -> Self {
        Self {
            id: None,
            number: String::new(),
            readiness,
            unplaced: false,
            version: None,
            amount: None,
            currency: None,
            email: None,
            products: 0,
            lines: 0,
        }
    }
}

/// A channel format whose items are JSON objects.
pub(crate) trait JsonFormat {
    /// What an item decodes to. Texts are [`Text`] or [`Label`], amounts [`Amount`], nested objects
    /// [`Obj`], lists [`List`]: only these keep numbers exact and refuse a member given twice.
    type Order<'a>: Deserialize<'a>;

    /// The shape of its bodies.
    const SHAPE: Shape;

    /// The facts of one item; `wrapper` is the member it came in, if any.
    ///
    /// # Errors
    /// The item is unreadable.
    fn facts(order: &Self::Order<'_>, wrapper: Option<&str>) -> Result<Facts, Fault>;
}

thread_local! {
    /// The lexer with its memory, used again for every item a thread reads.
    static LEXER: RefCell<Lexer> = RefCell::default();
}

/// Reads a body; see [`crate::read`].
///
/// # Errors
/// The body as a whole cannot be taken apart.
pub(crate) fn read<F: JsonFormat>(
    body: &Bytes,
    options: &ReadOptions<'_>,
) -> Result<Vec<ItemResult>, Unreadable> {
    LEXER.with_borrow_mut(|lexer| {
        let shape = F::SHAPE;
        let item_bytes = options.limits.item_bytes.min(RECORDED_MAX);
        let limits = Limits { item_bytes, ..options.limits };
        let mut reader = Reader::<F> {
            body,
            options,
            text: std::str::from_utf8(body).ok(),
            items: Vec::new(),
            format: std::marker::PhantomData,
        };
        let rules = Rules {
            depth: options.limits.depth.min(DEPTH_CEILING),
            bytes: item_bytes,
            wrappers: shape.wrappers,
            id: shape.id,
            volatile: shape.volatile,
            ignored: options.fingerprint_ignore,
        };
        let outcome = Framer { body, rules, limits, lexer, sink: &mut reader }.run();
        let outcome = match outcome {
            Ok(()) => reader.finish(),
            Err(fault) => Err(unreadable(body, 0..body.len(), Place::start(), fault)),
        };
        shrink(lexer);
        outcome
    })
}

/// Decodes one item's bytes and gives the order to `then`.
///
/// # Errors
/// The bytes are no such item; they were when [`read`] took them, so only after a change of rules or a
/// fault of the store.
pub(crate) fn decode<F: JsonFormat, R>(
    bytes: &[u8],
    then: impl FnOnce(&F::Order<'_>) -> R,
) -> Result<R, Unreadable> {
    LEXER.with_borrow_mut(|lexer| {
        let rules = rules_for_kept_bytes();
        let scanned = lexer.scan(bytes, 0, &rules);
        let outcome = match scanned.and_then(|scan| lexer.soft.take().map_or(Ok(scan), Err)) {
            Err(fault) => Err(fault),
            Ok(_) if !lexer.tape.is_whole() => {
                Err(Fault::of(UnreadableKind::TooLarge, "", "more bytes than any order has"))
            }
            Ok(_) => match std::str::from_utf8(bytes) {
                Ok(text) => decode::typed::<F::Order<'_>>(&lexer.tape, text).map(|o| then(&o)),
                Err(_) => Err(not_utf8(bytes, 0)),
            },
        };
        shrink(lexer);
        outcome.map_err(|fault| unreadable(bytes, 0..bytes.len(), Place::start(), fault))
    })
}

fn rules_for_kept_bytes() -> Rules<'static> {
    let (depth, bytes) = (DEPTH_CEILING, RECORDED_MAX);
    Rules { depth, bytes, wrappers: &[], id: "", volatile: &[], ignored: &[] }
}

fn shrink(lexer: &mut Lexer) {
    if lexer.minified.capacity() + lexer.tape.capacity() > SCRATCH_KEPT {
        *lexer = Lexer::default();
    }
}

/// Makes items of what the framer finds.
struct Reader<'a, F> {
    body: &'a Bytes,
    options: &'a ReadOptions<'a>,
    /// The body, if all of it is text.
    text: Option<&'a str>,
    /// Each with where it stands. The line and column of a fault are found at the end, when it is certain
    /// that the item stays: an item taken back would make the body be counted again from its start.
    items: Vec<(Range<usize>, Result<Item, Fault>)>,
    format: std::marker::PhantomData<F>,
}

impl<F: JsonFormat> Sink for Reader<'_, F> {
    fn item(&mut self, framed: Framed<'_>) {
        let span = framed.span.clone();
        let outcome = self.one(framed);
        self.items.push((span, outcome));
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn go_back(&mut self, len: usize) {
        self.items.truncate(len);
    }
}

impl<F: JsonFormat> Reader<'_, F> {
    fn one(&mut self, framed: Framed<'_>) -> Result<Item, Fault> {
        let Framed { span, wrapper, lexer, fault } = framed;
        let raw = self.body.get(span.clone()).unwrap_or_default();
        let text = match self.text {
            Some(text) => text.get(span.clone()).unwrap_or_default(),
            None => std::str::from_utf8(raw).map_err(|_| not_utf8(raw, span.start))?,
        };
        if let Some(fault) = fault {
            return Err(fault);
        }
        let facts = F::facts(&decode::typed::<F::Order<'_>>(&lexer.tape, text)?, wrapper)?;
        check_facts(&facts, &self.options.limits, F::SHAPE.id)?;
        let source = match self.options.source_pointer {
            Some(pointer) => path::text_at(raw, pointer)?,
            None => None,
        };
        if source.as_deref().is_some_and(has_control) {
            let pointer = self.options.source_pointer.unwrap_or_default();
            return Err(Fault::of(UnreadableKind::Value, pointer, CONTROL));
        }
        let bytes = self.body.slice(span.clone());
        let (bytes, masked) = match lexer.suspect || mask::may_hold_card(raw) {
            true => masking::masked(bytes, F::SHAPE.masked),
            false => (bytes, Vec::new()),
        };
        Ok(Item {
            id: facts.id,
            number: facts.number,
            source,
            readiness: facts.readiness,
            unplaced: facts.unplaced,
            version: facts.version,
            amount: facts.amount,
            currency: facts.currency,
            email: facts.email,
            lines: facts.products,
            fingerprint: fingerprint(&lexer.minified),
            bytes,
            masked,
            span,
        })
    }

    fn finish(self) -> Result<Vec<ItemResult>, Unreadable> {
        let told = |(_, item): &(_, Result<Item, Fault>)| {
            item.as_ref().is_err_and(|fault| fault.kind() == UnreadableKind::Encoding)
        };
        if self.text.is_none() && !self.items.iter().any(told) {
            let fault = not_utf8(self.body, 0);
            return Err(unreadable(self.body, 0..self.body.len(), Place::start(), fault));
        }
        let (body, mut place) = (self.body, Place::start());
        let told = self.items.into_iter().map(|(span, item)| {
            item.map_err(|fault| {
                place = place.advance(body, span.start);
                unreadable(body, span, place, fault)
            })
        });
        Ok(told.collect())
    }
}

const CONTROL: &str = "an identity holds a control character; send it without";

fn has_control(text: &str) -> bool {
    text.bytes().any(|b| b < 0x20 || b == 0x7f)
}

fn check_facts(facts: &Facts, limits: &Limits, id: &str) -> Result<(), Fault> {
    if facts.id.as_deref().is_some_and(has_control) {
        return Err(Fault::of(UnreadableKind::Value, format!("/{id}"), CONTROL));
    }
    if facts.lines > limits.lines {
        let message = format!("more than {} lines in one order", limits.lines);
        return Err(Fault::of(UnreadableKind::TooLarge, "", message));
    }
    Ok(())
}

fn fingerprint(minified: &[u8]) -> Fingerprint {
    let hash = blake3::hash(minified);
    let mut cut = [0; 16];
    cut.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    Fingerprint(cut)
}

fn not_utf8(bytes: &[u8], offset: usize) -> Fault {
    let valid = std::str::from_utf8(bytes).map_or_else(|fault| fault.valid_up_to(), str::len);
    Fault::at(UnreadableKind::Encoding, offset + valid, "not UTF-8; send the body as UTF-8")
}

/// A fault with its line, column and pointer. `span` is the item, `place` is not after its start.
fn unreadable(body: &[u8], span: Range<usize>, place: Place, fault: Fault) -> Unreadable {
    let item = body.get(span.clone()).unwrap_or_default();
    let fault = fault.into_parts();
    let (offset, pointer) = match fault.place {
        FaultPlace::Offset(offset) => {
            let within = offset.saturating_sub(span.start);
            (offset, path::pointer_at(item, within).filter(|pointer| !pointer.is_empty()))
        }
        FaultPlace::Pointer(pointer) => {
            let twice = fault.kind == UnreadableKind::DuplicateMember;
            let found = path::find(item, &pointer);
            let within = found.map_or(0, |(first, last)| if twice { last } else { first });
            (span.start + within, Some(pointer).filter(|pointer| !pointer.is_empty()))
        }
    };
    let place = place.advance(body, offset);
    Unreadable {
        kind: fault.kind,
        pointer,
        line: place.line,
        column: place.column,
        message: fault.message.into_owned(),
    }
}
