//! Well-formed tokens of one document or item.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::events::attributes::{AttrError, Attributes};
use quick_xml::events::{BytesRef, Event};

use super::Fault;
use super::grammar::{
    holds_section_end, is_blank, is_char, is_name, local, one_line_end, tag_length,
};
use crate::UnreadableKind::{self, Dtd, Encoding, Syntax, TooLarge};

/// More attributes than this on one element are refused; the order format has at most three.
const ATTRIBUTES_MAX: usize = 64;

/// An attribute: its name as written, its value with references resolved.
pub(crate) type Attribute<'a> = (&'a str, Cow<'a, str>);

/// One token. An empty element is a start and an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A start tag: local name, and the attributes without namespace declarations, sorted by name.
    Start(&'a str, Vec<Attribute<'a>>),
    /// The end of the innermost open element.
    End,
    /// A piece of text, resolved. Text with references or CDATA in it comes in several pieces.
    Text(Cow<'a, str>),
    /// A comment or processing instruction.
    Aside,
    /// The document is over.
    Done,
}

/// Reads tokens from text. Tags, text and references are told apart here; what begins with `<!` or `<?`, and
/// attributes, quick-xml reads.
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// The names of open elements, by where they stand in the text: start and end.
    open: Vec<(u32, u32)>,
    /// The last tag was an empty element, whose end comes next.
    empty: bool,
    span: Range<usize>,
    fault: Option<Fault>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), empty: false, span: 0..0, fault: None }
    }

    /// Bytes of the token just read.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A fault of the token just read that left the tags intact; it condemns an item, not the document.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// The next token.
    ///
    /// # Errors
    /// A [`Fault`] after which the rest cannot be told apart; do not read on.
    pub(crate) fn next(&mut self) -> Result<Token<'a>, Fault> {
        loop {
            self.span = self.at..self.at;
            if std::mem::take(&mut self.empty) {
                self.open.pop();
                return Ok(Token::End);
            }
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            match (rest.first(), rest.get(1)) {
                (None, _) => return Ok(Token::Done),
                (Some(b'<'), Some(b'!' | b'?')) => {
                    if let Some(token) = self.other_markup()? {
                        return Ok(token);
                    }
                }
                (Some(b'<'), Some(b'/')) => return self.end(rest),
                (Some(b'<'), _) => return self.start(rest),
                (Some(b'&'), _) => {
                    if let Some(text) = self.reference(rest) {
                        return Ok(Token::Text(text));
                    }
                }
                _ => {
                    let length = memchr::memchr2(b'<', b'&', rest).unwrap_or(rest.len());
                    let text = self.take(length);
                    if holds_section_end(text) {
                        self.spot(Syntax, "`]]>` in text; write `]]&gt;`");
                    }
                    return Ok(Token::Text(one_line_end(text)));
                }
            }
        }
    }

    /// The next `length` bytes, which are the token.
    fn take(&mut self, length: usize) -> &'a str {
        self.span = self.at..self.at + length;
        self.at = self.span.end;
        self.text.get(self.span.clone()).unwrap_or_default()
    }

    /// A tag, with its brackets.
    fn tag(&mut self, rest: &[u8]) -> Result<&'a str, Fault> {
        match tag_length(rest) {
            Some(length) => Ok(self.take(length)),
            None => Err(self.fatal(Syntax, UNCLOSED)),
        }
    }

    fn start(&mut self, rest: &[u8]) -> Result<Token<'a>, Fault> {
        let tag = self.tag(rest)?;
        let inside = tag.get(1..).unwrap_or_default();
        let (inside, empty) = match inside.strip_suffix("/>") {
            Some(inside) => (inside, true),
            None => (inside.strip_suffix('>').unwrap_or(inside), false),
        };
        let length = inside.bytes().position(is_blank).unwrap_or(inside.len());
        let qualified = inside.get(..length).unwrap_or_default();
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let name_at = self.span.start + 1;
        self.open.push((place(name_at), place(name_at + length)));
        self.empty = empty;
        let local = local(qualified);
        if !is_name(qualified) {
            self.spot(Syntax, "an element name that is none");
        }
        let attributes = match length == inside.len() {
            true => Vec::new(),
            false => self.attributes(inside, length),
        };
        Ok(Token::Start(local, attributes))
    }

    fn end(&mut self, rest: &[u8]) -> Result<Token<'a>, Fault> {
        let tag = self.tag(rest)?;
        let name = tag.get(2..tag.len() - 1).unwrap_or_default();
        let trimmed = name.trim_end_matches([' ', '\t', '\r', '\n']);
        // A name of blanks alone is compared as it stands.
        let name = if trimmed.is_empty() { name } else { trimmed };
        let Some((start, end)) = self.open.pop() else {
            return Err(self.fatal(Syntax, "an end tag that closes nothing"));
        };
        let opened = self.text.get(start as usize..end as usize);
        if opened != Some(name) {
            let message = "an end tag that does not match the element it closes";
            return Err(self.fatal(Syntax, message));
        }
        Ok(Token::End)
    }

    /// A reference's text; `None` if it is a bad one.
    fn reference(&mut self, rest: &[u8]) -> Option<Cow<'a, str>> {
        let after = rest.get(1..).unwrap_or_default();
        let stop = memchr::memchr3(b';', b'&', b'<', after).unwrap_or(after.len());
        if after.get(stop) == Some(&b';') {
            let whole = self.take(stop + 2);
            let name = whole.get(1..whole.len() - 1).unwrap_or_default();
            return self.resolve(&BytesRef::new(name));
        }
        self.take(stop + 1);
        self.spot(Syntax, "`&` that begins no reference; write `&amp;`");
        None
    }

    /// A comment, section, instruction, declaration or document type; `None` for a declaration, which says
    /// nothing that counts.
    fn other_markup(&mut self) -> Result<Option<Token<'a>>, Fault> {
        let start = self.at;
        let mut reader = Reader::from_str(self.text.get(start..).unwrap_or_default());
        let event = reader.read_event();
        let length = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        self.take(length.min(self.text.len() - start));
        match event {
            Ok(Event::CData(text)) => Ok(Some(Token::Text(match text.into_inner() {
                Cow::Borrowed(text) => one_line_end(text),
                Cow::Owned(text) => Cow::Owned(one_line_end(&text).into_owned()),
            }))),
            Ok(Event::Decl(declaration)) => {
                if start != 0 {
                    return Err(self.fatal(Syntax, "an XML declaration that is not at the start"));
                }
                let utf8 = match declaration.encoding() {
                    None => true,
                    Some(Ok(name)) => {
                        ["utf-8", "utf8", "us-ascii"].contains(&&*name.to_ascii_lowercase())
                    }
                    Some(Err(_)) => false,
                };
                if !utf8 {
                    return Err(self.fatal(Encoding, "declared encoding is not UTF-8; send UTF-8"));
                }
                if declaration.version().is_err() {
                    return Err(self.fatal(Syntax, "XML declaration without a version"));
                }
                Ok(None)
            }
            Ok(Event::DocType(_)) => {
                let message = "a document type definition, which is never read; leave it out";
                Err(self.fatal(Dtd, message))
            }
            Ok(_) => Ok(Some(Token::Aside)),
            Err(error) => {
                let at = usize::try_from(reader.error_position()).unwrap_or(0);
                Err(Fault::new(Syntax, start + at, broken(&error)))
            }
        }
    }

    fn attributes(&mut self, tag: &'a str, from: usize) -> Vec<Attribute<'a>> {
        let mut found: Vec<Attribute<'a>> = Vec::new();
        // Its own check for doubles compares each with all before it; ours sorts.
        for attribute in Attributes::new(tag, from).with_checks(false).take(ATTRIBUTES_MAX + 1) {
            match attribute {
                Ok(attribute) => {
                    let name = attribute.key.into_inner();
                    if !is_name(name) || attribute.value.contains('<') {
                        self.spot(Syntax, "an attribute that is not well-formed");
                    }
                    match attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0) {
                        Ok(value) if value.chars().all(is_char) => found.push((name, value)),
                        Ok(_) => self.spot(Syntax, "a character that XML forbids"),
                        Err(_) => self.spot(Dtd, "an attribute with an unknown or bad reference"),
                    }
                }
                Err(error) => {
                    self.spot(Syntax, broken_attribute(&error));
                    break;
                }
            }
        }
        if found.len() > ATTRIBUTES_MAX {
            self.spot(TooLarge, "more than 64 attributes on one element");
        }
        found.sort_unstable_by_key(|(name, _)| *name);
        if found.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            self.spot(Syntax, "an attribute given twice");
        }
        found.retain(|(name, _)| *name != "xmlns" && !name.starts_with("xmlns:"));
        found
    }

    fn resolve(&mut self, reference: &BytesRef<'_>) -> Option<Cow<'a, str>> {
        match reference.resolve_char_ref() {
            Ok(Some(found)) if is_char(found) => return Some(Cow::Owned(found.to_string())),
            Ok(Some(_)) => self.spot(Syntax, "a reference to a character that XML forbids"),
            Err(_) => self.spot(Syntax, "a character reference that is none"),
            Ok(None) => match quick_xml::escape::resolve_xml_entity(reference) {
                Some(text) => return Some(Cow::Borrowed(text)),
                None => {
                    self.spot(Dtd, "an entity that XML does not predefine; write the character")
                }
            },
        }
        None
    }

    fn fatal(&self, kind: UnreadableKind, message: &'static str) -> Fault {
        Fault::new(kind, self.span.start, message)
    }

    fn spot(&mut self, kind: UnreadableKind, message: &'static str) {
        let at = self.span.start;
        self.fault.get_or_insert_with(|| Fault::new(kind, at, message));
    }
}

/// The fault of a tag, comment or section without an end.
const UNCLOSED: &str = "a tag, comment or section that is never closed";

fn broken(error: &Error) -> &'static str {
    match error {
        Error::IllFormed(IllFormedError::MissingDoctypeName) => {
            "a document type definition, which is never read; leave it out"
        }
        Error::Syntax(_) => UNCLOSED,
        _ => "not well-formed XML",
    }
}

fn broken_attribute(error: &AttrError) -> &'static str {
    match error {
        AttrError::ExpectedEq(_) | AttrError::ExpectedValue(_) => "an attribute without a value",
        AttrError::UnquotedValue(_) | AttrError::ExpectedQuote(..) => {
            "an attribute value without quotes"
        }
        AttrError::Duplicated(..) => "an attribute given twice",
    }
}

#[cfg(test)]
mod tests;
