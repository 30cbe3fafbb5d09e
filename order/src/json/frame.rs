//! Takes a body apart into items: one object, an array, NDJSON, or a REST wrapper around one of them.
//!
//! A fault that leaves no doubt where values end (too deep, half a surrogate, a wrong value) condemns
//! its item alone. Any other condemns the body, except in NDJSON, where it condemns its line.

use std::ops::Range;

use super::fault::Fault;
use super::lex::{Lexer, Rules, Scan};
use super::token::{blanks, byte, unescape, unexpected};
use crate::{Limits, UnreadableKind};

/// Wrappers in wrappers, as in `{"data":{"orders":[]}}`; also what bounds the recursion here.
const WRAPPERS_MAX: usize = 3;

/// One item found, with what the lexer made of it.
pub(super) struct Framed<'l> {
    pub(super) span: Range<usize>,
    /// The member of the wrapper it came in.
    pub(super) wrapper: Option<&'static str>,
    pub(super) lexer: &'l mut Lexer,
    /// Known already to be unreadable.
    pub(super) fault: Option<Fault>,
}

/// Whoever takes the items.
pub(super) trait Sink {
    /// Takes one item.
    fn item(&mut self, framed: Framed<'_>);
    /// How many were taken.
    fn len(&self) -> usize;
    /// Forgets all but the first `len`.
    fn go_back(&mut self, len: usize);
}

/// The taking apart of one body.
pub(super) struct Framer<'a, S> {
    pub(super) body: &'a [u8],
    pub(super) rules: Rules<'a>,
    pub(super) limits: Limits,
    pub(super) lexer: &'a mut Lexer,
    pub(super) sink: &'a mut S,
}

/// Where the value stands in its surroundings.
#[derive(Clone, Copy)]
struct Around {
    wrapper: Option<&'static str>,
    level: usize,
    /// Where the enclosing text ends: the body, or the line in NDJSON.
    end: usize,
}

impl<'a, S: Sink> Framer<'a, S> {
    /// Gives every item to the sink, in order.
    ///
    /// # Errors
    /// The body as a whole cannot be taken apart.
    pub(super) fn run(&mut self) -> Result<(), Fault> {
        let bom = if self.body.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
        let start = blanks(self.body, bom);
        if start == self.body.len() {
            return Err(Fault::at(UnreadableKind::Syntax, start, "the body is empty"));
        }
        let around = Around { wrapper: None, level: 0, end: self.body.len() };
        let before = self.sink.len();
        match self.value(start, around) {
            Ok(end) => {
                let rest = blanks(self.body, end);
                if rest == self.body.len() {
                    return Ok(());
                }
                let line_of = |range: Range<usize>| self.has_newline(range);
                if byte(self.body, start) == b'{' && !line_of(start..end) && line_of(end..rest) {
                    return self.lines(rest);
                }
                Err(Fault::at(UnreadableKind::Syntax, rest, "something follows after the value"))
            }
            Err(fault) if fault.kind() == UnreadableKind::TooLarge || !self.is_ndjson(start) => {
                Err(fault)
            }
            Err(_) => {
                self.sink.go_back(before);
                self.lines(start)
            }
        }
    }

    fn has_newline(&self, range: Range<usize>) -> bool {
        self.body.get(range).is_some_and(|part| memchr::memchr(b'\n', part).is_some())
    }

    /// Whether a body that is no single JSON value is NDJSON with a bad first line: every line begins and
    /// ends like an object, and one at least is whole. (So an array cut off is not taken for it.)
    fn is_ndjson(&mut self, start: usize) -> bool {
        let body = self.body;
        let lines = || line_spans(body, start);
        let like_an_object = |line: Range<usize>| {
            body.get(line).is_some_and(|text| text.starts_with(b"{") && text.ends_with(b"}"))
        };
        if lines().nth(1).is_none() || !lines().all(like_an_object) {
            return false;
        }
        let rules = Rules { wrappers: &[], ..self.rules };
        // A body of more lines is refused in any case.
        lines().take(self.limits.items).any(|line| {
            let text = body.get(..line.end).unwrap_or_default();
            let whole = self.lexer.scan(text, line.start, &rules);
            whole.is_ok_and(|scan| match scan {
                Scan::Value(end) => blanks(text, end) == line.end,
                Scan::Wrapper { .. } => false,
            })
        })
    }

    /// NDJSON from `start` on.
    fn lines(&mut self, start: usize) -> Result<(), Fault> {
        let body = self.body;
        for line in line_spans(body, start) {
            let before = self.sink.len();
            let around = Around { wrapper: None, level: 0, end: line.end };
            let fault = match self.value(line.start, around) {
                Ok(end) => {
                    let rest = blanks(self.text(around), end);
                    if rest == line.end {
                        continue;
                    }
                    Fault::at(UnreadableKind::Syntax, rest, "something follows on the line")
                }
                Err(fault) => fault,
            };
            if fault.kind() == UnreadableKind::TooLarge && self.sink.len() >= self.limits.items {
                return Err(fault);
            }
            self.sink.go_back(before);
            self.bad(line, fault)?;
        }
        Ok(())
    }

    fn text(&self, around: Around) -> &'a [u8] {
        self.body.get(..around.end).unwrap_or_default()
    }

    /// An object that is an item or a wrapper, an array of such, or something else, which is an item
    /// that cannot be read. Gives where it ends.
    fn value(&mut self, at: usize, around: Around) -> Result<usize, Fault> {
        match byte(self.text(around), at) {
            b'[' => self.array(at, around),
            b'{' => self.object(at, around, around.level < WRAPPERS_MAX),
            _ => self.no_object(at, around),
        }
    }

    fn array(&mut self, at: usize, around: Around) -> Result<usize, Fault> {
        let mut here = blanks(self.text(around), at + 1);
        if byte(self.text(around), here) == b']' {
            return Err(Fault::at(UnreadableKind::Value, at, "the list is empty; send an order"));
        }
        loop {
            let end = match byte(self.text(around), here) {
                b'{' => self.object(here, around, around.level < WRAPPERS_MAX)?,
                _ => self.no_object(here, around)?,
            };
            here = blanks(self.text(around), end);
            match byte(self.text(around), here) {
                b',' => here = blanks(self.text(around), here + 1),
                b']' => return Ok(here + 1),
                _ => return Err(unexpected(self.text(around), here, "',' or ']' after an order")),
            }
        }
    }

    fn object(&mut self, at: usize, around: Around, may_wrap: bool) -> Result<usize, Fault> {
        let wrappers = if may_wrap { self.rules.wrappers } else { &[] };
        match self.scan(at, around, wrappers)? {
            Scan::Value(end) => {
                let fault = self.lexer.soft.clone();
                self.emit(at..end, around.wrapper, fault)?;
                Ok(end)
            }
            Scan::Wrapper { name, value } => self.wrapper(at, around, name, value),
        }
    }

    /// The rest of a wrapper whose member `name` has its value at `value`.
    fn wrapper(
        &mut self,
        at: usize,
        around: Around,
        name: &'static str,
        value: usize,
    ) -> Result<usize, Fault> {
        if let Some(fault) = self.lexer.soft.take() {
            return Err(fault);
        }
        let before = self.sink.len();
        let fault = match self.inside(around, name, value) {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => None,
            Err(fault) => Some(fault),
        };
        // It has an id of its own, or may have one: then it is an item with a member of that name.
        let plain = self.scan(at, around, &[]);
        match (plain, fault) {
            (Ok(Scan::Value(end)), fault) if fault.is_none() || self.lexer.has_id => {
                self.sink.go_back(before);
                let fault = self.lexer.soft.clone();
                self.emit(at..end, around.wrapper, fault)?;
                Ok(end)
            }
            (_, Some(fault)) | (Err(fault), None) => Err(fault),
            (Ok(_), None) => Err(unexpected(self.text(around), at, "an order")),
        }
    }

    /// The items at `value` and the wrapper's end; `None` if a later member says that it is none.
    fn inside(
        &mut self,
        around: Around,
        name: &'static str,
        value: usize,
    ) -> Result<Option<usize>, Fault> {
        let inner = Around { wrapper: Some(name), level: around.level + 1, end: around.end };
        let mut end = self.value(value, inner)?;
        loop {
            end = blanks(self.text(around), end);
            match byte(self.text(around), end) {
                b'}' => return Ok(Some(end + 1)),
                b',' => {}
                _ => return Err(unexpected(self.text(around), end, "',' or '}' after a member")),
            }
            match self.other_member(end + 1, around)? {
                Some(next) => end = next,
                None => return Ok(None),
            }
        }
    }

    /// Walks one more member of a wrapper, to its end; `None` if it is the one that makes it an item.
    fn other_member(&mut self, at: usize, around: Around) -> Result<Option<usize>, Fault> {
        let start = blanks(self.text(around), at);
        if byte(self.text(around), start) != b'"' {
            return Err(unexpected(self.text(around), start, "a member name in double quotes"));
        }
        let colon = blanks(self.text(around), self.skip(start, around)?);
        let raw = self.body.get(start + 1..colon).unwrap_or_default().trim_ascii_end();
        let name = unescape(raw.strip_suffix(b"\"").unwrap_or(raw)).into_owned();
        if byte(self.text(around), colon) != b':' {
            return Err(unexpected(self.text(around), colon, "':' after a member name"));
        }
        let value = blanks(self.text(around), colon + 1);
        if name == self.rules.id.as_bytes() {
            return Ok(None);
        }
        let container = matches!(byte(self.text(around), value), b'{' | b'[');
        if container && self.rules.wrappers.iter().any(|w| w.as_bytes() == name) {
            let message = "orders stand in two members of one wrapper; send them in one";
            return Err(Fault::at(UnreadableKind::DuplicateMember, start, message));
        }
        self.skip(value, around).map(Some)
    }

    /// Walks a value nobody reads. Its faults are the body's.
    fn skip(&mut self, at: usize, around: Around) -> Result<usize, Fault> {
        match self.scan(at, around, &[])? {
            Scan::Wrapper { value, .. } => Ok(value),
            Scan::Value(end) => match self.lexer.soft.take() {
                Some(fault) => Err(fault),
                None => Ok(end),
            },
        }
    }

    fn scan(
        &mut self,
        at: usize,
        around: Around,
        wrappers: &'static [&'static str],
    ) -> Result<Scan, Fault> {
        let text = self.body.get(..around.end).unwrap_or_default();
        let rules = Rules { wrappers, ..self.rules };
        // The first fault is the one to tell, even where a later one ends the walk.
        self.lexer.scan(text, at, &rules).map_err(|fault| self.lexer.soft.take().unwrap_or(fault))
    }

    /// Something that is no object stands where an order must be.
    fn no_object(&mut self, at: usize, around: Around) -> Result<usize, Fault> {
        let end = self.skip(at, around)?;
        let fault = Fault::at(UnreadableKind::Value, at, "an order is a JSON object");
        self.emit(at..end, around.wrapper, Some(fault))?;
        Ok(end)
    }

    fn bad(&mut self, line: Range<usize>, fault: Fault) -> Result<(), Fault> {
        self.emit(line, None, Some(fault))
    }

    fn emit(
        &mut self,
        span: Range<usize>,
        wrapper: Option<&'static str>,
        fault: Option<Fault>,
    ) -> Result<(), Fault> {
        if self.sink.len() >= self.limits.items {
            let message = format!("more than {} orders in one body; send fewer", self.limits.items);
            return Err(Fault::at(UnreadableKind::TooLarge, span.start, message));
        }
        let fault = match span.len() > self.limits.item_bytes {
            true => Some(Fault::at(
                UnreadableKind::TooLarge,
                span.start,
                format!("an order of more than {} bytes", self.limits.item_bytes),
            )),
            false => fault,
        };
        self.sink.item(Framed { span, wrapper, lexer: self.lexer, fault });
        Ok(())
    }
}

/// The lines from `start` on that are not blank, without the blanks around their text.
fn line_spans(body: &[u8], start: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = start;
    std::iter::from_fn(move || {
        let from = blanks(body, at);
        let rest = body.get(from..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        at = from + length;
        Some(from..from + rest.get(..length).unwrap_or_default().trim_ascii_end().len())
    })
}
