//! The tape: the values and member names of one item, in the order of the document, as the lexical pass
//! met them; and the typed decoder that reads an order from it without walking the bytes again.
//!
//! A number decodes as the text it is written in, like a string, so that `123` and `"123"` are the same and
//! no digit is lost. Text without escapes is borrowed from the item.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::token::unescape;

/// Longer values are never recorded: no limit on an item may be above this.
pub(super) const RECORDED_MAX: usize = 1 << 30;

/// Elements that are counted ahead for whoever asks how many there are.
const HINT_MAX: usize = 64;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    List,
    /// A string that stands for itself.
    Plain,
    /// A string that holds escapes.
    Escaped,
    Number,
    Flag(bool),
    Null,
}

/// A value, or a member's name, which comes right before its value.
#[derive(Clone, Copy)]
struct Node {
    /// Of a string the byte after its quote, of anything else its first byte.
    start: u32,
    /// The byte after its text. Object or list: the node after it; while it is open, the one around it.
    end: u32,
    kind: Kind,
}

/// Twelve bytes for each value and each name; the memory is used again for the next item.
#[derive(Default)]
pub(super) struct Tape {
    nodes: Vec<Node>,
    origin: usize,
    /// Values that begin this far from the first are not recorded, nor is anything after one that was not.
    room: usize,
    /// The innermost open object or list.
    open: u32,
}

impl Tape {
    /// Begins with the value at `origin`; records no value that begins `room` bytes after it.
    pub(super) fn begin(&mut self, origin: usize, room: usize) {
        self.nodes.clear();
        self.origin = origin;
        self.room = room.min(RECORDED_MAX);
        self.open = 0;
    }

    /// Records no more: the value is refused in any case.
    pub(super) fn stop(&mut self) {
        self.room = 0;
    }

    /// Whether everything was recorded.
    pub(super) fn is_whole(&self) -> bool {
        self.room > 0
    }

    /// The memory it holds, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }

    /// A string by the offsets of its quotes.
    #[inline]
    pub(super) fn string(&mut self, open: usize, close: usize, escaped: bool) {
        let kind = if escaped { Kind::Escaped } else { Kind::Plain };
        self.push(open + 1, self.place(close), kind);
    }

    /// A number.
    #[inline]
    pub(super) fn number(&mut self, start: usize, end: usize) {
        self.push(start, self.place(end), Kind::Number);
    }

    /// `true`, `false` or `null`.
    pub(super) fn literal(&mut self, start: usize, value: Option<bool>) {
        self.push(start, 0, value.map_or(Kind::Null, Kind::Flag));
    }

    /// An object or list begins.
    #[inline]
    pub(super) fn open(&mut self, at: usize, object: bool) {
        let around = self.open;
        self.open = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.push(at, around, if object { Kind::Object } else { Kind::List });
    }

    /// The innermost open object or list ends.
    #[inline]
    pub(super) fn close(&mut self) {
        if !self.is_whole() {
            return;
        }
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if let Some(node) = usize::try_from(self.open).ok().and_then(|at| self.nodes.get_mut(at)) {
            self.open = node.end;
            node.end = next;
        }
    }

    #[inline]
    fn place(&self, at: usize) -> u32 {
        u32::try_from(at - self.origin).unwrap_or(u32::MAX)
    }

    #[inline]
    fn push(&mut self, start: usize, end: u32, kind: Kind) {
        if start - self.origin < self.room {
            let start = self.place(start);
            self.nodes.push(Node { start, end, kind });
        } else {
            self.room = 0;
        }
    }

    /// What was recorded, of the item with this text.
    pub(super) fn of<'t, 'de>(&'t self, text: &'de str) -> Document<'t, 'de> {
        Document { nodes: &self.nodes, text }
    }
}

/// The values of one item and its text.
pub(super) struct Document<'t, 'de> {
    nodes: &'t [Node],
    text: &'de str,
}

impl<'t, 'de> Document<'t, 'de> {
    /// The item itself.
    pub(super) fn root(&'t self) -> Value<'t, 'de> {
        Value { document: self, at: 0 }
    }
}

/// One recorded value, to be decoded.
#[derive(Clone, Copy)]
pub(super) struct Value<'t, 'de> {
    document: &'t Document<'t, 'de>,
    at: usize,
}

impl<'t, 'de> Value<'t, 'de> {
    #[inline]
    fn node(&self) -> Node {
        let none = Node { start: 0, end: 0, kind: Kind::Null };
        self.document.nodes.get(self.at).copied().unwrap_or(none)
    }

    /// The node after it.
    #[inline]
    fn next(&self) -> usize {
        let node = self.node();
        match node.kind {
            Kind::Object | Kind::List => (node.end as usize).max(self.at + 1),
            _ => self.at + 1,
        }
    }

    #[inline]
    fn inside(self) -> Members<'t, 'de> {
        let end = self.next();
        Members { rest: Value { at: self.at + 1, ..self }, end }
    }

    /// The text of a string, name or number as it is written.
    #[inline]
    fn written(&self, node: Node) -> &'de str {
        self.document.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    #[inline(never)]
    fn unescaped<V: Visitor<'de>>(self, node: Node, visitor: V) -> Result<V::Value, Refused> {
        let text = unescape(self.written(node).as_bytes());
        visitor.visit_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Refused;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let node = self.node();
        match node.kind {
            Kind::Plain | Kind::Number => visitor.visit_borrowed_str(self.written(node)),
            Kind::Escaped => self.unescaped(node, visitor),
            Kind::Object => visitor.visit_map(self.inside()),
            Kind::List => visitor.visit_seq(self.inside()),
            Kind::Flag(flag) => visitor.visit_bool(flag),
            Kind::Null => visitor.visit_unit(),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.node().kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A member's name.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let node = self.node();
        match node.kind {
            Kind::Escaped => self.unescaped(node, visitor),
            _ => visitor.visit_borrowed_str(self.written(node)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum
    }
}

/// What is left of an object or a list.
struct Members<'t, 'de> {
    rest: Value<'t, 'de>,
    end: usize,
}

impl<'de> Members<'_, 'de> {
    /// The next element or name, unless there is none left.
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.rest.at >= self.end {
            return Ok(None);
        }
        self.next_value_seed(seed).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Members<'_, 'de> {
    type Error = Refused;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        self.next(seed)
    }

    /// How many are left, as far as that is worth counting.
    fn size_hint(&self) -> Option<usize> {
        let (mut value, mut count) = (self.rest, 0);
        while value.at < self.end && count < HINT_MAX {
            value.at = value.next();
            count += 1;
        }
        Some(count)
    }
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = Refused;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let value = self.rest;
        self.rest.at = value.next();
        seed.deserialize(value)
    }
}

/// Why an item is not of the type asked for, in the words of the type.
#[derive(Debug)]
pub(super) struct Refused(Box<str>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}
