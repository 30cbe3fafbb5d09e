//! Well-formed tokens of one document or item.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError};
use quick_xml::events::attributes::{AttrError, Attributes};
use quick_xml::events::{BytesRef, Event};

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

/// The bytes of the tag that `text` begins with, up to the `>` that stands in no attribute's value.
fn tag_length(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    for at in memchr::memchr3_iter(b'>', b'\'', b'"', text) {
        match (quote, *text.get(at)?) {
            (None, b'>') => return Some(at + 1),
            (None, mark) => quote = Some(mark),
            (Some(open), mark) if open == mark => quote = None,
            (Some(_), _) => {}
        }
    }
    None
}

fn holds_section_end(text: &str) -> bool {
    let text = text.as_bytes();
    memchr::memchr_iter(b'>', text).any(|at| text.get(..at).is_some_and(|t| t.ends_with(b"]]")))
}

/// Line ends as XML has them: `\r\n` and `\r` are one `\n`.
fn one_line_end(text: &str) -> Cow<'_, str> {
    match memchr::memchr(b'\r', text.as_bytes()) {
        Some(_) => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        None => text.into(),
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The name without its namespace prefix.
fn local(name: &str) -> &str {
    let colon = name.bytes().rposition(|byte| byte == b':');
    colon.map_or(name, |at| name.get(at + 1..).unwrap_or_default())
}

/// An XML name, as far as ASCII is concerned; other letters are taken as they are. It has a local part.
fn is_name(name: &str) -> bool {
    let starts = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':') || b >= 0x80;
    let goes_on = |b: u8| starts(b) || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    name.bytes().next().is_some_and(starts) && name.bytes().all(goes_on) && !name.ends_with(':')
}

/// A character that XML 1.0 allows.
fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
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

    /// What each token is and where it stands, up to the fault that ends all.
    fn ours(text: &str) -> Vec<(char, Range<usize>)> {
        let mut tokens = Tokens::new(text);
        let mut out = Vec::new();
        loop {
            let kind = match tokens.next() {
                Ok(Token::Start(..)) => 'S',
                Ok(Token::End) => 'E',
                Ok(Token::Text(_)) => 'T',
                Ok(Token::Aside) => 'A',
                Ok(Token::Done) => 'D',
                Err(fault) => {
                    out.push(('!', fault.at..fault.at));
                    return out;
                }
            };
            out.push((kind, tokens.span()));
            if kind == 'D' {
                return out;
            }
        }
    }

    /// The same as quick-xml alone tells it.
    fn theirs(text: &str) -> Vec<(char, Range<usize>)> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut out = Vec::new();
        loop {
            let start = usize::try_from(reader.buffer_position()).unwrap();
            let event = reader.read_event();
            let span = start..usize::try_from(reader.buffer_position()).unwrap();
            let known = |reference: &BytesRef<'_>| match reference.resolve_char_ref() {
                Ok(Some(found)) => is_char(found),
                Ok(None) => quick_xml::escape::resolve_xml_entity(reference).is_some(),
                Err(_) => false,
            };
            let kind = match event {
                Ok(Event::Start(_)) => 'S',
                Ok(Event::End(_)) => 'E',
                Ok(Event::Text(_) | Event::CData(_)) => 'T',
                Ok(Event::GeneralRef(reference)) if known(&reference) => 'T',
                Ok(Event::Comment(_) | Event::PI(_)) => 'A',
                Ok(Event::Eof) => 'D',
                Ok(Event::GeneralRef(_))
                | Err(Error::IllFormed(IllFormedError::UnclosedReference)) => continue,
                Ok(_) => {
                    out.push(('!', start..start));
                    return out;
                }
                Err(_) => {
                    let at = usize::try_from(reader.error_position()).unwrap();
                    out.push(('!', at..at));
                    return out;
                }
            };
            out.push((kind, span));
            if kind == 'D' {
                return out;
            }
        }
    }

    const PIECES: [&str; 34] = [
        "<a>",
        "</a>",
        "<b c='>' d=\"'>\">",
        "</b>",
        "</b >",
        "<a/>",
        "<a />",
        "<o:é x=''/>",
        "<",
        ">",
        "</",
        "/>",
        "<!-- c -->",
        "<!-->",
        "<!",
        "<?p x?>",
        "<?>",
        "<![CDATA[x]]>",
        "<![CDATA",
        "]]>",
        "<!DOCTYPE a>",
        "&amp;",
        "&#65;",
        "&#0;",
        "&x;",
        "&",
        ";",
        "'",
        "\"",
        " ",
        "\r\n",
        "text",
        "é",
        "=",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_000))]

        #[test]
        fn tags_and_text_are_told_apart_as_quick_xml_does(
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..14),
        ) {
            // Within an element most is allowed, and more of it is read.
            for text in [pieces.concat(), format!("<a>{}</a>", pieces.concat())] {
                proptest::prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
            }
        }
    }
}
