//! Card data in an item: which bytes to mask before anything is written.
//!
//! Only texts that the format names are looked at, and comments, which are free text everywhere.
//! Text is taken as it reads: digits hidden by character references, CDATA or a comment in between
//! are found, and it is their bytes in the item that are masked.

use super::tokens::{Attribute, Token, Tokens};
use crate::{MaskedSpan, mask};

/// Which texts of a format are looked at.
pub(crate) struct Rules {
    /// Whether an element, by its path below the item, holds free text or payment text.
    pub(crate) looked_at: fn(path: &[&str]) -> bool,
    /// Attribute that names what an element is about, as an element's own name does.
    pub(crate) name_attribute: &'static str,
}

/// Whether the item needs the closer look of [`spans`]; false for nearly every order.
pub(crate) fn suspected(item: &[u8], verification_name: bool) -> bool {
    let is_at = |at: Option<usize>, byte| at.and_then(|at| item.get(at)) == Some(&byte);
    let reference = || memchr::memchr_iter(b'&', item).any(|at| is_at(at.checked_add(1), b'#'));
    let aside = || memchr::memchr_iter(b'!', item).any(|at| is_at(at.checked_sub(1), b'<'));
    verification_name || reference() || aside() || mask::may_hold_card(item)
}

/// The spans to mask, counted from the start of the item.
pub(crate) fn spans(item: &[u8], rules: &Rules) -> Vec<MaskedSpan> {
    let Ok(text) = std::str::from_utf8(item) else { return Vec::new() };
    let mut tokens = Tokens::new(text);
    let mut found = Vec::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut reading = Reading::default();
    while let Ok(token) = tokens.next() {
        let span = tokens.span();
        let raw = item.get(span.clone()).unwrap_or_default();
        match token {
            Token::Start(name, attributes) => {
                reading.finish(open.last(), &mut found);
                let verification = names_verification(name, &attributes, rules.name_attribute)
                    || open.last().is_some_and(|parent| parent.verification);
                open.push(Open { name, looked_at: false, verification });
                let path: Vec<&str> = open.iter().skip(1).map(|open| open.name).collect();
                let looked_at = (rules.looked_at)(&path);
                if let Some(last) = open.last_mut() {
                    last.looked_at = looked_at;
                }
            }
            Token::End => {
                reading.finish(open.last(), &mut found);
                open.pop();
                if open.is_empty() {
                    break;
                }
            }
            Token::Text(text) => reading.add(raw, &text, span.start),
            Token::Aside => mask::card_numbers(raw, span.start, &mut found),
            Token::Done => break,
        }
    }
    found.sort_unstable_by_key(|span| span.start);
    found
}

/// Whether the element is about a card verification value, by its name or its `naming` attribute.
pub(super) fn names_verification(name: &str, attributes: &[Attribute<'_>], naming: &str) -> bool {
    let named = |name: &str| mask::is_verification_name(name.as_bytes());
    named(name) || attributes.iter().any(|(key, value)| *key == naming && named(value))
}

struct Open<'a> {
    name: &'a str,
    looked_at: bool,
    verification: bool,
}

/// The text since the last tag, and where each byte of it stands in the item.
#[derive(Default)]
struct Reading {
    text: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Reading {
    fn add(&mut self, raw: &[u8], text: &str, at: usize) {
        let (section, reference) = (raw.strip_prefix(b"<![CDATA["), raw.first() == Some(&b'&'));
        let verbatim = match section {
            Some(section) => (section.strip_suffix(b"]]>").unwrap_or(section), at + 9),
            None => (raw, at),
        };
        if reference {
            self.text.extend_from_slice(text.as_bytes());
            self.places.resize(self.text.len(), (at, at + raw.len()));
        } else {
            self.text.extend_from_slice(verbatim.0);
            self.places.extend((verbatim.1..).take(verbatim.0.len()).map(|at| (at, at + 1)));
        }
    }

    fn finish(&mut self, element: Option<&Open<'_>>, found: &mut Vec<MaskedSpan>) {
        let mut here = Vec::new();
        if let Some(element) = element {
            if element.looked_at {
                mask::card_numbers(&self.text, 0, &mut here);
            }
            if element.verification {
                mask::verification_value(&self.text, 0, &mut here);
            }
        }
        for span in here {
            let from = span.start as usize;
            let places = self.places.get(from..from + span.len as usize).unwrap_or_default();
            for (start, end) in places {
                extend(found, *start, *end);
            }
        }
        self.text.clear();
        self.places.clear();
    }
}

/// Adds the bytes from `start` to `end`, joined to the last span where they touch it.
fn extend(found: &mut Vec<MaskedSpan>, start: usize, end: usize) {
    let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else { return };
    match found.last_mut() {
        Some(last) if last.start + last.len == start => last.len += end - start,
        _ => found.push(MaskedSpan { start, len: end - start }),
    }
}
