//! One strict lexical pass (RFC 8259) over one JSON value, without recursion.
//!
//! On the way it makes what the rest needs, so that the bytes are walked once: the [`Tape`] that the typed
//! decoder reads, the *minified* text without volatile members (what the fingerprint is taken of), and
//! hints for masking.

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
    /// A string is a name of a card verification field.
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
        self.begin(start, rules);
        let mut at = start;
        // Whether a member's name comes next, not a value.
        let mut named = false;
        loop {
            if named {
                let mark = self.mark(at);
                let (end, value) = self.name(body, at)?;
                if self.nesting.depth == 1
                    && let Some(name) = self.top_member(body, mark, end, value, rules)
                {
                    return Ok(Scan::Wrapper { name, value });
                }
                at = value;
            }
            let first = byte(body, at);
            let end = match first {
                b'"' => self.string(body, at)?,
                b'{' | b'[' => {
                    let object = first == b'{';
                    self.open(at, object, rules);
                    let next = self.blank(body, at + 1);
                    if byte(body, next) != closing(object) {
                        (named, at) = (object, next);
                        continue;
                    }
                    self.close();
                    next + 1
                }
                b'-' | b'0'..=b'9' => {
                    let end = number(body, at)?;
                    self.tape.number(at, end);
                    end
                }
                _ => self.literal(body, at)?,
            };
            at = self.after(body, end)?;
            if self.nesting.depth == 0 {
                self.flush(body, at);
                return Ok(Scan::Value(at));
            }
            named = self.nesting.in_object();
        }
    }

    fn begin(&mut self, start: usize, rules: &Rules<'_>) {
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
    }

    /// An object or list begins.
    #[inline]
    fn open(&mut self, at: usize, object: bool, rules: &Rules<'_>) {
        self.nesting.push(object);
        self.tape.open(at, object);
        if self.nesting.depth > rules.depth {
            self.tape.stop();
            let message = "nested deeper than allowed; send a flatter document";
            self.soften(UnreadableKind::Depth, at, message);
        }
    }

    /// What stands after a value: closing brackets, and unless everything is closed then, a comma. Gives where the
    /// next value or name begins, or everything ended.
    #[inline]
    fn after(&mut self, body: &[u8], end: usize) -> Result<usize, Fault> {
        let mut at = end;
        while self.nesting.depth > 0 {
            at = self.blank(body, at);
            if self.muted && self.nesting.depth == 1 {
                self.unmute(body, at);
            }
            let object = self.nesting.in_object();
            match byte(body, at) {
                b',' => return Ok(self.blank(body, at + 1)),
                close if close == closing(object) => {
                    self.close();
                    at += 1;
                }
                _ if object => return Err(unexpected(body, at, "',' or '}' after a member")),
                _ => return Err(unexpected(body, at, "',' or ']' after an element")),
            }
        }
        Ok(at)
    }

    /// The end of a member's name, and where its value begins.
    #[inline]
    fn name(&mut self, body: &[u8], at: usize) -> Result<(usize, usize), Fault> {
        if byte(body, at) != b'"' {
            return Err(unexpected(body, at, "a member name in double quotes"));
        }
        let end = self.string(body, at)?;
        let colon = self.blank(body, end);
        if byte(body, colon) != b':' {
            return Err(unexpected(body, colon, "':' after a member name"));
        }
        Ok((end, self.blank(body, colon + 1)))
    }

    /// What a member of the value itself means for it; its name, if that makes the value a wrapper.
    #[inline(never)]
    fn top_member(
        &mut self,
        body: &[u8],
        mark: Mark,
        end: usize,
        value: usize,
        rules: &Rules<'_>,
    ) -> Option<&'static str> {
        let name = unescape(body.get(mark.name + 1..end - 1).unwrap_or_default());
        if rules.is_volatile(&name) {
            self.mute(body, mark);
        }
        self.has_id |= *name == *rules.id.as_bytes();
        if self.has_id || !matches!(byte(body, value), b'{' | b'[') {
            return None;
        }
        rules.wrappers.iter().copied().find(|wrapper| wrapper.as_bytes() == &*name)
    }
}

/// The bracket that ends an object or a list.
#[inline]
fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
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

    #[inline]
    fn mark(&self, name: usize) -> Mark {
        Mark { length: self.minified.len(), from: self.minified_from, name }
    }

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
    /// The end of the string that opens at `at`.
    #[inline]
    fn string(&mut self, body: &[u8], at: usize) -> Result<usize, Fault> {
        let close = plain(body, at + 1);
        if byte(body, close) != b'"' {
            return self.uncommon_string(body, at, close);
        }
        self.tape.string(at, close, false);
        self.suspect |= mask::is_verification_name(body.get(at + 1..close).unwrap_or_default());
        Ok(close + 1)
    }

    /// A string whose first byte of note, at `here`, is no closing quote.
    #[inline(never)]
    fn uncommon_string(&mut self, body: &[u8], at: usize, here: usize) -> Result<usize, Fault> {
        let mut here = here;
        loop {
            match byte(body, here) {
                b'"' => break,
                b'\\' => here = plain(body, self.escape(body, here)?),
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
        self.tape.string(at, here, true);
        self.suspect |= mask::is_verification_name(body.get(at + 1..here).unwrap_or_default());
        Ok(here + 1)
    }

    #[inline(never)]
    fn literal(&mut self, body: &[u8], at: usize) -> Result<usize, Fault> {
        let (word, value) = match byte(body, at) {
            b't' => ("true", Some(true)),
            b'f' => ("false", Some(false)),
            b'n' => ("null", None),
            _ => return Err(unexpected(body, at, "a value")),
        };
        let end = literal(body, at, word.as_bytes())?;
        self.tape.literal(at, value);
        Ok(end)
    }

    /// Keeps a fault after which the walk goes on, unless there is one.
    #[cold]
    fn soften(&mut self, kind: UnreadableKind, at: usize, message: &'static str) {
        if self.soft.is_none() {
            self.soft = Some(Fault::at(kind, at, message));
        }
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
        let message = "half a surrogate pair; send the whole character";
        self.soften(UnreadableKind::Encoding, at, message);
        Ok(at + 6)
    }
}
