//! One strict lexical pass (RFC 8259) over one JSON value, without recursion.
//!
//! On the way it makes what the rest needs, so that the bytes are walked once: the [`Tape`] that the typed
//! decoder reads, the *minified* text without volatile members (what the fingerprint is taken of), and
//! hints for masking.

use std::borrow::Cow;

use super::fault::Fault;
use super::tape::Tape;
use super::token::{blanks, byte, hex4, is_blank, literal, number, plain, unescape, unexpected};
use crate::UnreadableKind;
use crate::mask;

/// What the pass must know of the value it walks.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Deepest nesting allowed, the value itself counting 1.
    pub(super) depth: usize,
    /// A longer value is refused later: of it neither tape nor minified text is made.
    pub(super) bytes: usize,
    /// Names of top-level members that make the value a wrapper; none if it cannot be one.
    pub(super) wrappers: &'static [&'static str],
    /// The top-level member whose presence says that the value is no wrapper.
    pub(super) id: &'static str,
    /// Top-level members left out of the minified text.
    pub(super) volatile: &'static [&'static str],
    /// More of them, from the channel's configuration.
    pub(super) ignored: &'a [String],
}

/// What the value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A whole value that ends before this offset.
    Value(usize),
    /// A wrapper: its member `name` has an object or array at `value`; the walk stopped there.
    Wrapper { name: &'static str, value: usize },
}

/// The pass and what it made of the last value. Its memory is kept for the next one.
#[derive(Default)]
pub(super) struct Lexer {
    /// Its values and names; whole unless the value is too long or nested too deep.
    pub(super) tape: Tape,
    /// Minified, volatile top-level members left out.
    pub(super) minified: Vec<u8>,
    /// The first fault after which the walk could go on, since it leaves no doubt where values end.
    pub(super) soft: Option<Fault>,
    /// A string is a name of a card verification field, or may hold a card number.
    pub(super) suspect: bool,
    minified_from: usize,
    /// Within a volatile member: nothing goes to the minified text.
    muted: bool,
    /// The member of [`Rules::id`] was met at the top.
    pub(super) has_id: bool,
    nesting: Nesting,
}

/// Open containers, one bit each (1 = object), so that a bomb of a million brackets costs 128 KiB.
#[derive(Default)]
struct Nesting {
    depth: usize,
    word: u64,
    full: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        if self.depth.is_multiple_of(64) {
            self.full.push(self.word);
            self.word = 0;
        }
        self.word = (self.word << 1) | u64::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.word >>= 1;
        if self.depth.is_multiple_of(64) {
            self.word = self.full.pop().unwrap_or(0);
        }
    }

    fn in_object(&self) -> bool {
        self.word & 1 == 1
    }
}

/// Where the minified text stood when a member's name began.
#[derive(Clone, Copy)]
struct Mark {
    length: usize,
    from: usize,
    name: usize,
}

impl Rules<'_> {
    fn is_volatile(&self, name: &[u8]) -> bool {
        self.volatile.iter().any(|member| member.as_bytes() == name)
            || self.ignored.iter().any(|member| member.as_bytes() == name)
    }
}

/// What follows a value or an opening bracket.
enum Next {
    Value(usize),
    End(usize),
    Wrapper { name: &'static str, value: usize },
}

impl Lexer {
    /// Walks the value at `start` of `body`.
    ///
    /// # Errors
    /// A fault after which it is not certain where the value ends. Others are kept in
    /// [`Lexer::soft`], the first one only.
    pub(super) fn scan(
        &mut self,
        body: &[u8],
        start: usize,
        rules: &Rules<'_>,
    ) -> Result<Scan, Fault> {
        self.tape.begin(start, rules.bytes);
        self.minified.clear();
        self.soft = None;
        self.suspect = false;
        self.minified_from = start;
        self.muted = false;
        self.has_id = false;
        self.nesting =
            Nesting { full: std::mem::take(&mut self.nesting.full), ..Nesting::default() };
        self.nesting.full.clear();
        let mut at = start;
        loop {
            match self.value(body, at, rules)? {
                Next::Value(next) => at = next,
                Next::End(end) => {
                    self.flush(body, end);
                    return Ok(Scan::Value(end));
                }
                Next::Wrapper { name, value } => return Ok(Scan::Wrapper { name, value }),
            }
        }
    }

    /// One value, and whatever closes after it, up to the start of the next value or the end of all.
    fn value(&mut self, body: &[u8], at: usize, rules: &Rules<'_>) -> Result<Next, Fault> {
        let end = match byte(body, at) {
            b'{' => return self.open(body, at, true, rules),
            b'[' => return self.open(body, at, false, rules),
            b'"' => {
                let (end, _) = self.string(body, at)?;
                end
            }
            b'-' | b'0'..=b'9' => {
                let end = number(body, at)?;
                self.tape.scalar(at, end);
                end
            }
            b't' => self.literal(body, at, b"true")?,
            b'f' => self.literal(body, at, b"false")?,
            b'n' => self.literal(body, at, b"null")?,
            _ => return Err(unexpected(body, at, "a value")),
        };
        self.after(body, end, rules)
    }

    fn open(
        &mut self,
        body: &[u8],
        at: usize,
        object: bool,
        rules: &Rules<'_>,
    ) -> Result<Next, Fault> {
        self.nesting.push(object);
        self.tape.open(at);
        if self.nesting.depth > rules.depth {
            self.tape.stop();
            if self.soft.is_none() {
                let message = "nested deeper than allowed; send a flatter document";
                self.soft = Some(Fault::at(UnreadableKind::Depth, at, message));
            }
        }
        let next = self.blank(body, at + 1);
        match (object, byte(body, next)) {
            (true, b'}') | (false, b']') => {
                self.close();
                self.after(body, next + 1, rules)
            }
            (true, _) => self.member(body, next, rules),
            (false, _) => Ok(Next::Value(next)),
        }
    }

    /// What stands after a value: a comma and the next value, or closing brackets.
    fn after(&mut self, body: &[u8], at: usize, rules: &Rules<'_>) -> Result<Next, Fault> {
        let mut at = at;
        while self.nesting.depth > 0 {
            at = self.blank(body, at);
            let object = self.nesting.in_object();
            if self.muted && self.nesting.depth == 1 {
                self.unmute(body, at);
            }
            match (object, byte(body, at)) {
                (true, b',') => {
                    let key = self.blank(body, at + 1);
                    return self.member(body, key, rules);
                }
                (false, b',') => return Ok(Next::Value(self.blank(body, at + 1))),
                (true, b'}') | (false, b']') => {
                    self.close();
                    at += 1;
                }
                (true, _) => return Err(unexpected(body, at, "',' or '}' after a member")),
                (false, _) => return Err(unexpected(body, at, "',' or ']' after an element")),
            }
        }
        Ok(Next::End(at))
    }

    /// A member's name and colon, up to its value.
    fn member(&mut self, body: &[u8], at: usize, rules: &Rules<'_>) -> Result<Next, Fault> {
        if byte(body, at) != b'"' {
            return Err(unexpected(body, at, "a member name in double quotes"));
        }
        let mark = Mark { length: self.minified.len(), from: self.minified_from, name: at };
        let (end, escaped) = self.string(body, at)?;
        let colon = self.blank(body, end);
        if byte(body, colon) != b':' {
            return Err(unexpected(body, colon, "':' after a member name"));
        }
        let value = self.blank(body, colon + 1);
        if self.nesting.depth == 1 {
            let raw = body.get(at + 1..end - 1).unwrap_or_default();
            let name = if escaped { unescape(raw) } else { Cow::Borrowed(raw) };
            if rules.is_volatile(&name) {
                self.mute(body, mark);
            }
            self.has_id |= *name == *rules.id.as_bytes();
            if !self.has_id
                && matches!(byte(body, value), b'{' | b'[')
                && let Some(name) = rules.wrappers.iter().find(|w| w.as_bytes() == &*name)
            {
                return Ok(Next::Wrapper { name, value });
            }
        }
        Ok(Next::Value(value))
    }
}

// === the tape and the minified text ===

impl Lexer {
    /// Skips blanks at `at`; they stay out of the minified text.
    #[inline]
    fn blank(&mut self, body: &[u8], at: usize) -> usize {
        if !is_blank(byte(body, at)) {
            return at;
        }
        let end = blanks(body, at);
        self.flush(body, at);
        self.minified_from = end;
        end
    }

    fn flush(&mut self, body: &[u8], to: usize) {
        if !self.muted && self.tape.is_whole() {
            self.minified.extend_from_slice(body.get(self.minified_from..to).unwrap_or_default());
        }
        self.minified_from = to;
    }

    fn close(&mut self) {
        self.nesting.pop();
        self.tape.close();
    }

    fn literal(&mut self, body: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
        let end = literal(body, at, word)?;
        self.tape.scalar(at, end);
        Ok(end)
    }
}

impl Lexer {
    /// Takes a member, from its name on, out of the minified text, and the comma before it.
    fn mute(&mut self, body: &[u8], mark: Mark) {
        self.minified.truncate(mark.length);
        self.minified.extend_from_slice(body.get(mark.from..mark.name).unwrap_or_default());
        if self.minified.last() == Some(&b',') {
            self.minified.pop();
        }
        self.muted = true;
    }

    /// Goes on with the comma or bracket after a muted member; without the comma if nothing is before it.
    fn unmute(&mut self, body: &[u8], at: usize) {
        let first = self.minified.len() == 1 && byte(body, at) == b',';
        self.minified_from = if first { at + 1 } else { at };
        self.muted = false;
    }
}

// === strings, numbers, literals ===

impl Lexer {
    /// The end of the string that opens at `at`, and whether it holds escapes.
    fn string(&mut self, body: &[u8], at: usize) -> Result<(usize, bool), Fault> {
        let mut escaped = false;
        let mut here = at + 1;
        loop {
            here = plain(body, here);
            match byte(body, here) {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    here = self.escape(body, here)?;
                }
                _ if here >= body.len() => {
                    let message = "the document ends inside a string; was it cut off?";
                    return Err(Fault::at(UnreadableKind::Syntax, body.len(), message));
                }
                _ => {
                    let message = "a control character inside a string; escape it";
                    return Err(Fault::at(UnreadableKind::Syntax, here, message));
                }
            }
        }
        self.tape.string(at, here, escaped);
        if !self.suspect {
            let text = body.get(at + 1..here).unwrap_or_default();
            self.suspect = mask::is_verification_name(text)
                || (text.len() >= mask::CARD_MIN && mask::may_hold_card(text));
        }
        Ok((here + 1, escaped))
    }

    /// The end of the escape at `at`; a surrogate pair counts as one.
    #[inline(never)]
    fn escape(&mut self, body: &[u8], at: usize) -> Result<usize, Fault> {
        match byte(body, at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => return Ok(at + 2),
            b'u' => {}
            _ => {
                let message = "an unknown escape in a string";
                return Err(Fault::at(UnreadableKind::Syntax, at, message));
            }
        }
        let unit = hex4(body, at + 2)?;
        if !(0xd800..0xe000).contains(&unit) {
            return Ok(at + 6);
        }
        let pair = unit < 0xdc00 && byte(body, at + 6) == b'\\' && byte(body, at + 7) == b'u';
        if pair && (0xdc00..0xe000).contains(&hex4(body, at + 8)?) {
            return Ok(at + 12);
        }
        if self.soft.is_none() {
            let message = "half a surrogate pair; send the whole character";
            self.soft = Some(Fault::at(UnreadableKind::Encoding, at, message));
        }
        Ok(at + 6)
    }
}
