//! Well-formed tokens of one document or item.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::events::attributes::{AttrError, Attributes};
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::Fault;
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

/// Reads tokens from text.
pub(crate) struct Tokens<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    span: Range<usize>,
    fault: Option<Fault>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { text, reader, span: 0..0, fault: None }
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
            let start = self.position();
            let event = self.reader.read_event();
            self.span = start..self.position();
            match event {
                Ok(Event::Start(tag) | Event::Empty(tag)) => return Ok(self.start(&tag)),
                Ok(Event::End(_)) => return Ok(Token::End),
                Ok(Event::Text(text)) => {
                    if text.contains("]]>") {
                        self.spot(Syntax, "`]]>` in text; write `]]&gt;`");
                    }
                    return Ok(Token::Text(one_line_end(text.into_inner())));
                }
                Ok(Event::CData(text)) => {
                    return Ok(Token::Text(one_line_end(text.into_inner())));
                }
                Ok(Event::GeneralRef(reference)) => {
                    if let Some(text) = self.resolve(&reference) {
                        return Ok(Token::Text(text));
                    }
                }
                Ok(Event::Decl(declaration)) => {
                    if start != 0 {
                        return Err(
                            self.fatal(Syntax, "an XML declaration that is not at the start")
                        );
                    }
                    let utf8 = match declaration.encoding() {
                        None => true,
                        Some(Ok(name)) => {
                            ["utf-8", "utf8", "us-ascii"].contains(&&*name.to_ascii_lowercase())
                        }
                        Some(Err(_)) => false,
                    };
                    if !utf8 {
                        return Err(
                            self.fatal(Encoding, "declared encoding is not UTF-8; send UTF-8")
                        );
                    }
                    if declaration.version().is_err() {
                        return Err(self.fatal(Syntax, "XML declaration without a version"));
                    }
                }
                Ok(Event::DocType(_)) => {
                    let message = "a document type definition, which is never read; leave it out";
                    return Err(self.fatal(Dtd, message));
                }
                Ok(Event::Comment(_) | Event::PI(_)) => return Ok(Token::Aside),
                Ok(Event::Eof) => return Ok(Token::Done),
                Err(Error::IllFormed(IllFormedError::UnclosedReference)) => {
                    self.spot(Syntax, "`&` that begins no reference; write `&amp;`");
                }
                Err(error) => {
                    let at = usize::try_from(self.reader.error_position()).unwrap_or(start);
                    return Err(Fault::new(Syntax, at, broken(&error)));
                }
            }
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Token<'a> {
        let after = self.text.get(self.span.start + 1..self.span.end).unwrap_or_default();
        let qualified = after.get(..tag.name().as_ref().len()).unwrap_or_default();
        let whole = after.get(..tag.len()).unwrap_or_default();
        if !is_name(qualified) {
            self.spot(Syntax, "an element name that is none");
        }
        Token::Start(local(qualified), self.attributes(whole, qualified.len()))
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

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn fatal(&self, kind: UnreadableKind, message: &'static str) -> Fault {
        Fault::new(kind, self.span.start, message)
    }

    fn spot(&mut self, kind: UnreadableKind, message: &'static str) {
        let at = self.span.start;
        self.fault.get_or_insert_with(|| Fault::new(kind, at, message));
    }
}

/// Line ends as XML has them: `\r\n` and `\r` are one `\n`.
fn one_line_end(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text }
}

/// The name without its namespace prefix.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// An XML name, as far as ASCII is concerned; other letters are taken as they are.
fn is_name(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':') || !c.is_ascii();
    let goes_on = |c: char| starts(c) || c.is_ascii_digit() || matches!(c, '-' | '.');
    name.chars().next().is_some_and(starts) && name.chars().all(goes_on) && !local(name).is_empty()
}

/// A character that XML 1.0 allows.
fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

fn broken(error: &Error) -> &'static str {
    match error {
        Error::IllFormed(IllFormedError::MismatchedEndTag { .. }) => {
            "an end tag that does not match the element it closes"
        }
        Error::IllFormed(IllFormedError::UnmatchedEndTag(_)) => "an end tag that closes nothing",
        Error::IllFormed(IllFormedError::MissingDoctypeName) => {
            "a document type definition, which is never read; leave it out"
        }
        Error::Syntax(_) => "a tag, comment or section that is never closed",
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
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Token<'_>>, Fault> {
        let mut tokens = Tokens::new(text);
        let mut out = Vec::new();
        loop {
            let token = tokens.next()?;
            if let Some(fault) = tokens.take_fault() {
                return Err(fault);
            }
            match token {
                Token::Done => return Ok(out),
                token => out.push(token),
            }
        }
    }

    fn kind(text: &str) -> Option<UnreadableKind> {
        all(text).err().map(|fault| fault.kind)
    }

    #[test]
    fn prefixes_and_namespace_declarations_are_dropped() {
        let tokens = all("<o:a xmlns:o='urn:x' z='1' b='2'/>").unwrap();
        let attributes = vec![("b", Cow::from("2")), ("z", Cow::from("1"))];
        assert_eq!(tokens, [Token::Start("a", attributes), Token::End]);
    }

    #[test]
    fn text_comes_resolved() {
        let tokens = all("<a>1 &lt;<![CDATA[&<]]>&#x41;<!-- c --><?p?></a>").unwrap();
        let text: String = tokens
            .iter()
            .filter_map(|token| if let Token::Text(text) = token { Some(&**text) } else { None })
            .collect();
        assert_eq!(text, "1 <&<A");
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for text in [
            "<a></b>",
            "</a>",
            "<a",
            "<a x=1/>",
            "<a x/>",
            "<a x='1' x='2'/>",
            "<a x='<'/>",
            "<1/>",
            "<a>&#0;</a>",
            "<a>&#xD800;</a>",
            "<a>&#zz;</a>",
            "<a>AT & T</a>",
            "<a>]]></a>",
            "<a/><?xml version='1.0'?>",
            "<a><!-- </a>",
            "<a><![CDATA[ </a>",
        ] {
            assert_eq!(kind(text), Some(Syntax), "{text}");
        }
    }

    #[test]
    fn entities_document_types_and_other_encodings_are_refused() {
        assert_eq!(kind("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Some(Dtd));
        assert_eq!(kind("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>"), Some(Dtd));
        assert_eq!(kind("<a>&nbsp;</a>"), Some(Dtd));
        assert_eq!(kind("<a x='&nbsp;'/>"), Some(Dtd));
        assert_eq!(kind("<?xml version='1.0' encoding='ISO-8859-1'?><a/>"), Some(Encoding));
        assert_eq!(kind("<?xml version='1.0' encoding='utf-8'?><a/>"), None);
    }

    #[test]
    fn very_many_attributes_end_early() {
        let many: String = (0..200_000).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(kind(&format!("<a{many}/>")), Some(TooLarge));
    }
}
