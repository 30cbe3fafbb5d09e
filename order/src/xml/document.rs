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

use super::item::{Reading, Stream, is_blank};
use super::place::Places;
use super::tokens::{Attribute, Token, Tokens};
use super::{Fault, cards};
use crate::UnreadableKind::{self, Encoding, Syntax, TooLarge};
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
    walk.is_text = matches!(text, Cow::Borrowed(_));
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

/// The first byte in `range` that is not UTF-8, or that XML forbids even in text. `is_text`: all of it is UTF-8.
fn blemish(content: &[u8], range: Range<usize>, is_text: bool) -> Option<Fault> {
    let from = range.start;
    let bytes = content.get(range)?;
    let control = forbidden(bytes);
    let control = control.map(|at| Fault::new(Syntax, from + at, "a character that XML forbids"));
    let error = if is_text { None } else { std::str::from_utf8(bytes).err() };
    let utf8 = error
        .map(|error| Fault::new(Encoding, from + error.valid_up_to(), "not UTF-8; send UTF-8"));
    control.into_iter().chain(utf8).min_by_key(|fault| fault.at)
}

/// The first control character that XML forbids; nearly always none, so that blocks are looked at whole.
fn forbidden(bytes: &[u8]) -> Option<usize> {
    let is_forbidden = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    let (blocks, rest) = bytes.as_chunks::<32>();
    let holds = |block: &[u8; 32]| block.iter().fold(false, |any, &b| any | is_forbidden(b));
    if !blocks.iter().any(holds) && !rest.iter().any(|&b| is_forbidden(b)) {
        return None;
    }
    bytes.iter().position(|&b| is_forbidden(b))
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
    /// All of the content is UTF-8.
    is_text: bool,
    shape: &'a Shape,
    options: &'a ReadOptions<'o>,
    root: Root,
    items: usize,
    /// Everything before this byte has been looked at for blemishes.
    checked: usize,
    reading: Option<Reading<'a, F>>,
    /// Of the last item, for its memory.
    stream: Stream,
}

impl<'a, 'o, F: Facts> Walk<'a, 'o, F> {
    fn new(content: &'a [u8], shape: &'a Shape, options: &'a ReadOptions<'o>) -> Self {
        let (root, reading, stream) = (Root::Before, None, Stream::default());
        let (is_text, items, checked) = (false, 0, 0);
        Self { content, is_text, shape, options, root, items, checked, reading, stream }
    }

    fn step(&mut self, tokens: &mut Tokens<'a>) -> Result<Step<F>, Fault> {
        let token = tokens.next()?;
        let span = tokens.span();
        let mut fault = tokens.take_fault();
        if let Some(reading) = &mut self.reading
            && let Some(fault) = fault.take()
        {
            reading.fail(fault);
        }
        match (token, fault) {
            (Token::Start(name, attributes), fault) => {
                self.start(name, &attributes, span.start, fault)
            }
            (_, Some(fault)) => Err(fault),
            (Token::Text(text), None) => self.text(text, span.start),
            (Token::End, None) => Ok(self.end(span.end)),
            (Token::Aside, None) => Ok(Step::More),
            (Token::Done, None) => self.done(span.start),
        }
    }

    fn start(
        &mut self,
        name: &'a str,
        attributes: &[Attribute<'a>],
        at: usize,
        fault: Option<Fault>,
    ) -> Result<Step<F>, Fault> {
        if let Some(reading) = &mut self.reading {
            reading.open(name, attributes, at, self.shape, self.options);
            return Ok(Step::More);
        }
        if self.root == Root::After {
            return Err(Fault::new(Syntax, at, "a second root element"));
        }
        let is_list = self.root == Root::Before && name == self.shape.list;
        match fault {
            // Of the list's own tag, or of something before this tag and outside every item.
            Some(fault) if is_list || fault.at < at => Err(fault),
            _ if is_list => {
                self.root = Root::List;
                Ok(Step::More)
            }
            fault => self.begin(name, attributes, at, fault),
        }
    }

    fn begin(
        &mut self,
        name: &'a str,
        attributes: &[Attribute<'a>],
        at: usize,
        fault: Option<Fault>,
    ) -> Result<Step<F>, Fault> {
        if self.root == Root::Before {
            self.root = Root::Item;
        }
        self.look(at)?;
        self.items += 1;
        let limits = self.options.limits;
        if self.items > limits.items {
            let message = "more items in one body than allowed; send it in parts";
            return Err(Fault::new(TooLarge, at, message));
        }
        self.stream.clear();
        let stream = std::mem::take(&mut self.stream);
        let is_item = name == self.shape.item;
        let facts = F::new(&limits);
        let mut reading = Reading::begin(at, (name, attributes), is_item, facts, stream);
        // The tag's own fault comes before what the format has against its attributes.
        reading.fault = fault.or(reading.fault);
        self.reading = Some(reading);
        Ok(Step::More)
    }

    fn text(&mut self, text: Cow<'a, str>, at: usize) -> Result<Step<F>, Fault> {
        match &mut self.reading {
            Some(reading) => reading.gather(text),
            None if is_blank(&text) => {}
            None => return Err(Fault::new(Syntax, at, "text outside an order")),
        }
        Ok(Step::More)
    }

    fn end(&mut self, end: usize) -> Step<F> {
        let Some(reading) = &mut self.reading else {
            self.root = Root::After;
            return Step::More;
        };
        let is_over = reading.close(end);
        if end - reading.start > self.options.limits.item_bytes {
            let message = "the order has more bytes than allowed";
            reading.fail(Fault::new(TooLarge, reading.start, message));
        }
        match self.reading.take_if(|_| is_over) {
            Some(reading) => self.part(reading, end),
            None => Step::More,
        }
    }

    /// The item that ends at `end`, or why it cannot be read.
    fn part(&mut self, reading: Reading<'a, F>, end: usize) -> Step<F> {
        if self.root == Root::Item {
            self.root = Root::After;
        }
        self.checked = end;
        let span = reading.start..end;
        let blemish = blemish(self.content, span.clone(), self.is_text);
        if let Some(fault) = reading.fault.into_iter().chain(blemish).min_by_key(|f| f.at) {
            return Step::Part(Err(fault));
        }
        let bytes = self.content.get(span.clone()).unwrap_or_default();
        let masked = match cards::suspected(bytes, reading.verification) {
            true => cards::spans(bytes, &self.shape.cards),
            false => Vec::new(),
        };
        let fingerprint = reading.stream.fingerprint();
        self.stream = reading.stream;
        let (is_item, facts) = (reading.is_item, reading.facts);
        Step::Part(Ok(Part { span, is_item, facts, fingerprint, masked }))
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
        blemish(self.content, range, self.is_text).map_or(Ok(()), Err)
    }

    /// The first thing wrong, if reading ended with `fault`: a bad byte before it may be its cause.
    fn earliest(&self, fault: Fault) -> Fault {
        let before = blemish(self.content, self.checked..fault.at.max(self.checked), self.is_text);
        let inside = self.reading.as_ref().and_then(|reading| reading.fault.clone());
        let earlier = before.into_iter().chain(inside).min_by_key(|earlier| earlier.at);
        earlier.filter(|earlier| earlier.at < fault.at).unwrap_or(fault)
    }
}

/// The fingerprint of a list without items.
pub(crate) fn empty() -> Fingerprint {
    Stream::default().fingerprint()
}
