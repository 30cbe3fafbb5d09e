//! One pass over a body: items, limits, fingerprints, and the facts a format picks.
//!
//! # Fingerprint
//! BLAKE3-128 over a stream of tokens: start of an element by its local name, its attributes sorted by
//! name, its text trimmed and resolved, its end. Every text carries its length, so no two contents
//! share one stream. Comments, processing instructions, namespace declarations, prefixes and blanks
//! between elements are not in it, nor are the format's volatile elements and those the channel
//! ignores; so an order has one fingerprint alone, in a batch, and re-indented.

use std::borrow::Cow;
use std::ops::Range;

use super::place::Places;
use super::tokens::{Attribute, Token, Tokens};
use super::{Fault, cards};
use crate::UnreadableKind::{self, Depth, Encoding, Syntax, TooLarge};
use crate::{Fingerprint, Limits, MaskedSpan, ReadOptions, Unreadable};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a format's documents look; all names local.
pub(crate) struct Shape {
    /// Root of a document of many items.
    pub(crate) list: &'static str,
    /// An item, which may also be the root.
    pub(crate) item: &'static str,
    /// Paths below the item that never count for the fingerprint.
    pub(crate) volatile: &'static [&'static [&'static str]],
    /// Where card data is looked for.
    pub(crate) cards: cards::Rules,
}

/// What a format wants to know of an item while it is read. Paths are the open elements below the
/// item (the item's own is empty); text is trimmed and never blank.
pub(crate) trait Facts: Sized {
    /// Nothing known yet.
    fn new(limits: &Limits) -> Self;

    /// An element begins.
    fn open(&mut self, path: &[&str], attributes: &[Attribute<'_>]) -> Result<(), Complaint>;

    /// Text of the innermost open element.
    fn text(&mut self, path: &[&str], text: &str) -> Result<(), Complaint>;
}

/// Why a format refuses an item; the place is where the walk stands.
pub(crate) struct Complaint(pub(crate) UnreadableKind, pub(crate) &'static str);

/// An item found.
#[derive(Debug)]
pub(crate) struct Part<F> {
    /// Where it stands in the body.
    pub(crate) span: Range<usize>,
    /// False for a root, or a child of the list, that is not the format's item.
    pub(crate) is_item: bool,
    /// What the format picked.
    pub(crate) facts: F,
    /// Of the content.
    pub(crate) fingerprint: Fingerprint,
    /// Card data in it, counted from its start.
    pub(crate) masked: Vec<MaskedSpan>,
}

/// Takes a body apart; see [`crate::read::read`] for what the two errors mean. An empty list gives no part.
pub(crate) fn read<F: Facts>(
    body: &[u8],
    shape: &Shape,
    options: &ReadOptions<'_>,
) -> Result<Vec<Result<Part<F>, Unreadable>>, Unreadable> {
    let first = if body.starts_with(BOM) { BOM.len() } else { 0 };
    let content = body.get(first..).unwrap_or_default();
    let mut places = Places::new(body, first);
    let refuse = |places: &mut Places<'_>, fault| Err(places.unreadable(&shifted(fault, first)));
    if [&b"\xff\xfe"[..], b"\xfe\xff", b"<\0", b"\0<"].iter().any(|mark| body.starts_with(mark)) {
        let fault = Fault::new(Encoding, 0, "not UTF-8 (UTF-16 or UTF-32?); send UTF-8");
        return refuse(&mut places, fault);
    }
    if content.starts_with(BOM) {
        return refuse(&mut places, Fault::new(Syntax, 0, "a second byte order mark"));
    }
    let text = text(content);
    let mut walk = Walk::<F>::new(content, shape, options);
    let mut out = Vec::new();
    let mut tokens = Tokens::new(&text);
    loop {
        match walk.step(&mut tokens) {
            Ok(Step::More) => {}
            Ok(Step::Part(Ok(mut part))) => {
                part.span = part.span.start + first..part.span.end + first;
                out.push(Ok(part));
            }
            Ok(Step::Part(Err(fault))) => out.push(Err(places.unreadable(&shifted(fault, first)))),
            Ok(Step::Done) => return Ok(out),
            Err(fault) => return refuse(&mut places, walk.earliest(fault)),
        }
    }
}

fn shifted(fault: Fault, by: usize) -> Fault {
    Fault { at: fault.at + by, ..fault }
}

/// The body as text of the same length; a byte that is not UTF-8 is replaced, and found again by
/// [`blemish`] in the item it stands in.
fn text(content: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(content) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut out = String::with_capacity(content.len());
            for chunk in content.utf8_chunks() {
                out.push_str(chunk.valid());
                out.extend(chunk.invalid().iter().map(|_| '?'));
            }
            Cow::Owned(out)
        }
    }
}

/// The first byte in `range` that is not UTF-8, or that XML forbids even in text.
fn blemish(content: &[u8], range: Range<usize>) -> Option<Fault> {
    let from = range.start;
    let bytes = content.get(range)?;
    let forbidden = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    let control = bytes.iter().position(forbidden);
    let control = control.map(|at| Fault::new(Syntax, from + at, "a character that XML forbids"));
    let utf8 = std::str::from_utf8(bytes)
        .err()
        .map(|error| Fault::new(Encoding, from + error.valid_up_to(), "not UTF-8; send UTF-8"));
    control.into_iter().chain(utf8).min_by_key(|fault| fault.at)
}

enum Step<F> {
    More,
    Part(Result<Part<F>, Fault>),
    Done,
}

/// Where the walk stands in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Before,
    List,
    Item,
    After,
}

struct Walk<'a, 'o, F> {
    content: &'a [u8],
    shape: &'a Shape,
    options: &'a ReadOptions<'o>,
    root: Root,
    items: usize,
    /// Everything before this byte has been looked at for blemishes.
    checked: usize,
    current: Option<Current<'a, F>>,
    /// Token stream of the current item; kept for its memory.
    stream: Vec<u8>,
}

/// The item being read.
struct Current<'a, F> {
    start: usize,
    is_item: bool,
    facts: F,
    fault: Option<Fault>,
    /// Elements open inside the item.
    depth: usize,
    /// Their names, as far as the limit on depth allows.
    path: Vec<&'a str>,
    text: Option<Cow<'a, str>>,
    /// Depth of the volatile element the walk is in.
    volatile: Option<usize>,
    /// An element is named like a card verification value.
    verification: bool,
}

impl<'a, 'o, F: Facts> Walk<'a, 'o, F> {
    fn new(content: &'a [u8], shape: &'a Shape, options: &'a ReadOptions<'o>) -> Self {
        let (root, current, stream) = (Root::Before, None, Vec::new());
        Self { content, shape, options, root, items: 0, checked: 0, current, stream }
    }

    fn step(&mut self, tokens: &mut Tokens<'a>) -> Result<Step<F>, Fault> {
        let token = tokens.next()?;
        let span = tokens.span();
        if let Some(fault) = tokens.take_fault() {
            match &mut self.current {
                Some(current) => current.fail(fault),
                None if fault.at < span.start || self.root == Root::After => return Err(fault),
                None => match token {
                    Token::Start(..) => return self.start(token, span, Some(fault)),
                    _ => return Err(fault),
                },
            }
        }
        match token {
            Token::Start(..) => self.start(token, span, None),
            Token::Text(text) => self.text(text, span.start),
            Token::End => self.end(span.end),
            Token::Aside => Ok(Step::More),
            Token::Done => self.done(span.start),
        }
    }

    fn start(
        &mut self,
        token: Token<'a>,
        span: Range<usize>,
        fault: Option<Fault>,
    ) -> Result<Step<F>, Fault> {
        let Token::Start(name, attributes) = token else { return Ok(Step::More) };
        let (shape, limits) = (self.shape, self.options.limits);
        if let Some(current) = &mut self.current {
            current.open(name, &attributes, span.start, self.options, shape, &mut self.stream);
            return Ok(Step::More);
        }
        match self.root {
            Root::After => return Err(Fault::new(Syntax, span.start, "a second root element")),
            Root::Before if name == shape.list => {
                self.root = Root::List;
                return fault.map_or(Ok(Step::More), Err);
            }
            Root::Before => self.root = Root::Item,
            Root::List | Root::Item => {}
        }
        self.look(span.start)?;
        self.items += 1;
        if self.items > limits.items {
            let message = "more items in one body than allowed; send it in parts";
            return Err(Fault::new(TooLarge, span.start, message));
        }
        let is_item = name == shape.item;
        let mut current = Current {
            start: span.start,
            is_item,
            facts: F::new(&limits),
            fault,
            depth: 0,
            path: Vec::new(),
            text: None,
            volatile: None,
            verification: false,
        };
        self.stream.clear();
        current.start_tokens(name, &attributes, &mut self.stream);
        if is_item && let Err(complaint) = current.facts.open(&[], &attributes) {
            current.complain(complaint, span.start);
        }
        self.current = Some(current);
        Ok(Step::More)
    }

    fn text(&mut self, text: Cow<'a, str>, at: usize) -> Result<Step<F>, Fault> {
        match &mut self.current {
            Some(current) => current.gather(text),
            None if is_blank(&text) => {}
            None => return Err(Fault::new(Syntax, at, "text outside an order")),
        }
        Ok(Step::More)
    }

    fn end(&mut self, end: usize) -> Result<Step<F>, Fault> {
        let Some(current) = &mut self.current else {
            self.root = Root::After;
            return Ok(Step::More);
        };
        current.flush(end, &mut self.stream);
        current.end_token(&mut self.stream);
        let too_large = end - current.start > self.options.limits.item_bytes;
        if too_large && current.fault.is_none() {
            let message = "the order has more bytes than allowed";
            current.fail(Fault::new(TooLarge, current.start, message));
            self.stream = Vec::new();
        }
        if current.depth > 0 {
            current.depth -= 1;
            current.path.truncate(current.depth);
            return Ok(Step::More);
        }
        if self.root == Root::Item {
            self.root = Root::After;
        }
        self.checked = end;
        let Some(current) = self.current.take() else { return Ok(Step::More) };
        let span = current.start..end;
        let blemish = blemish(self.content, span.clone());
        if let Some(fault) = current.fault.into_iter().chain(blemish).min_by_key(|f| f.at) {
            return Ok(Step::Part(Err(fault)));
        }
        let fingerprint = fingerprint(&self.stream);
        let (is_item, facts) = (current.is_item, current.facts);
        let bytes = self.content.get(span.clone()).unwrap_or_default();
        let masked = match cards::suspected(bytes, current.verification) {
            true => cards::spans(bytes, &self.shape.cards),
            false => Vec::new(),
        };
        Ok(Step::Part(Ok(Part { span, is_item, facts, fingerprint, masked })))
    }

    fn done(&mut self, end: usize) -> Result<Step<F>, Fault> {
        match self.root {
            Root::Before => return Err(Fault::new(Syntax, end, "no root element; send an order")),
            Root::List | Root::Item => {
                return Err(Fault::new(Syntax, end, "the document ends before its root does"));
            }
            Root::After => {}
        }
        self.look(end)?;
        Ok(Step::Done)
    }

    /// Looks at the bytes between items up to `end`.
    fn look(&mut self, end: usize) -> Result<(), Fault> {
        let range = self.checked..end;
        self.checked = end;
        blemish(self.content, range).map_or(Ok(()), Err)
    }

    /// The first thing wrong, if reading ended with `fault`: a bad byte before it may be its cause.
    fn earliest(&self, fault: Fault) -> Fault {
        let before = blemish(self.content, self.checked..fault.at.max(self.checked));
        let inside = self.current.as_ref().and_then(|current| current.fault.clone());
        [before, inside]
            .into_iter()
            .flatten()
            .chain([fault.clone()])
            .min_by_key(|f| f.at)
            .unwrap_or(fault)
    }
}

impl<'a, F: Facts> Current<'a, F> {
    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn complain(&mut self, complaint: Complaint, at: usize) {
        self.fail(Fault::new(complaint.0, at, complaint.1));
    }

    fn open(
        &mut self,
        name: &'a str,
        attributes: &[Attribute<'a>],
        at: usize,
        options: &ReadOptions<'_>,
        shape: &Shape,
        stream: &mut Vec<u8>,
    ) {
        self.flush(at, stream);
        // The item itself and the list around it count too.
        if self.depth + 2 >= options.limits.depth {
            self.fail(Fault::new(Depth, at, "elements nested deeper than allowed"));
        }
        self.depth += 1;
        if self.fault.is_some() {
            return;
        }
        self.path.push(name);
        let ignored =
            matches!(&*self.path, [top] if options.fingerprint_ignore.iter().any(|i| i == top));
        if self.volatile.is_none() && (ignored || shape.volatile.contains(&&*self.path)) {
            self.volatile = Some(self.depth);
        }
        self.start_tokens(name, attributes, stream);
        if self.is_item
            && let Err(complaint) = self.facts.open(&self.path, attributes)
        {
            self.complain(complaint, at);
        }
    }

    fn gather(&mut self, piece: Cow<'a, str>) {
        if self.fault.is_some() {
            return;
        }
        match &mut self.text {
            Some(text) => text.to_mut().push_str(&piece),
            None => self.text = Some(piece),
        }
    }

    /// Text is complete when the next tag comes.
    fn flush(&mut self, at: usize, stream: &mut Vec<u8>) {
        let Some(text) = self.text.take() else { return };
        let text = text.trim_matches(BLANKS);
        if text.is_empty() || self.fault.is_some() {
            return;
        }
        if self.volatile.is_none() {
            put(stream, b'T', text);
        }
        if self.is_item
            && let Err(complaint) = self.facts.text(&self.path, text)
        {
            self.complain(complaint, at);
        }
    }

    fn start_tokens(&self, name: &str, attributes: &[Attribute<'_>], stream: &mut Vec<u8>) {
        if self.volatile.is_none() && self.fault.is_none() {
            put(stream, b'S', name);
            for (name, value) in attributes {
                put(stream, b'A', name);
                put(stream, b'V', value);
            }
        }
    }

    fn end_token(&mut self, stream: &mut Vec<u8>) {
        match self.volatile {
            Some(depth) if depth == self.depth => self.volatile = None,
            Some(_) => {}
            None if self.fault.is_none() => stream.push(b'E'),
            None => {}
        }
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_blank(text: &str) -> bool {
    text.trim_matches(BLANKS).is_empty()
}

fn put(stream: &mut Vec<u8>, tag: u8, text: &str) {
    stream.push(tag);
    stream.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
    stream.extend_from_slice(text.as_bytes());
}

fn fingerprint(stream: &[u8]) -> Fingerprint {
    let hash = blake3::hash(stream);
    let mut out = [0; 16];
    for (out, byte) in out.iter_mut().zip(hash.as_bytes()) {
        *out = *byte;
    }
    Fingerprint(out)
}

/// The fingerprint of a list without items.
pub(crate) fn empty() -> Fingerprint {
    fingerprint(&[])
}
