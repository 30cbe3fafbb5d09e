//! What XML 1.0 says of tags, names, characters and line ends.

use std::borrow::Cow;

/// The bytes of the tag that `text` begins with, up to the `>` that stands in no attribute's value.
pub(super) fn tag_length(text: &[u8]) -> Option<usize> {
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

/// Whether `]]>` stands in it, which XML allows at the end of a section only.
pub(super) fn holds_section_end(text: &str) -> bool {
    let text = text.as_bytes();
    memchr::memchr_iter(b'>', text).any(|at| text.get(..at).is_some_and(|t| t.ends_with(b"]]")))
}

/// Line ends as XML has them: `\r\n` and `\r` are one `\n`.
pub(super) fn one_line_end(text: &str) -> Cow<'_, str> {
    match memchr::memchr(b'\r', text.as_bytes()) {
        Some(_) => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        None => text.into(),
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The name without its namespace prefix.
pub(super) fn local(name: &str) -> &str {
    let colon = name.bytes().rposition(|byte| byte == b':');
    colon.map_or(name, |at| name.get(at + 1..).unwrap_or_default())
}

/// An XML name, as far as ASCII is concerned; other letters are taken as they are. It has a local part.
pub(super) fn is_name(name: &str) -> bool {
    let starts = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':') || b >= 0x80;
    let goes_on = |b: u8| starts(b) || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    name.bytes().next().is_some_and(starts) && name.bytes().all(goes_on) && !name.ends_with(':')
}

/// A character that XML 1.0 allows.
pub(super) fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}
