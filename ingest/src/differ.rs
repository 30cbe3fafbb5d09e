//! Which top-level members of two bodies differ: names only, for the sender of a conflicting body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use forebay_order::Format;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::value::RawValue;

/// The most names that are told.
const NAMES_MAX: usize = 32;
/// Longer names are left out: they may carry data.
const NAME_LEN_MAX: usize = 64;

/// Pointers (`/name`) of the top-level members, or for XML child elements, that are not the same in both;
/// empty where one of the two cannot be taken apart. Never a value.
pub(crate) fn differing(format: Format, first: &[u8], second: &[u8]) -> Vec<String> {
    let (first, second) = match format {
        Format::B2cCommerceXml => (elements(first), elements(second)),
        _ => (members(first), members(second)),
    };
    let (Some(first), Some(second)) = (first, second) else { return Vec::new() };
    let changed = first.iter().filter(|(name, value)| second.get(*name) != Some(*value));
    let added = second.keys().filter(|name| !first.contains_key(*name));
    let mut names: Vec<&String> = changed.map(|(name, _)| name).chain(added).collect();
    names.sort_unstable();
    names.retain(|name| name.len() <= NAME_LEN_MAX);
    names.truncate(NAMES_MAX);
    names.into_iter().map(|n| format!("/{}", n.replace('~', "~0").replace('/', "~1"))).collect()
}

/// Members by name, each value without insignificant blanks.
fn members(body: &[u8]) -> Option<BTreeMap<String, Cow<'_, str>>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    Some(raw.into_iter().map(|(name, value)| (name, Cow::Owned(minified(value.get())))).collect())
}

/// JSON text without the blanks outside its strings.
fn minified(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if in_string {
                in_string = escaped || *c != '"';
                escaped = !escaped && *c == '\\';
                return true;
            }
            in_string = *c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

/// Child elements of the root by name, with everything in them; equal names are taken together.
fn elements(body: &[u8]) -> Option<BTreeMap<String, Cow<'_, str>>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().trim_text(true);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let (mut depth, mut name) = (0usize, String::new());
    let mut start = 0usize;
    loop {
        let before = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                depth += 1;
                if depth == 2 {
                    (name, start) = (tag.name().as_ref().to_owned(), before);
                }
            }
            Event::Empty(tag) if depth == 1 => {
                (name, start) = (tag.name().as_ref().to_owned(), before);
                note(&mut found, &name, text, start, &reader)?;
            }
            Event::End(_) => {
                if depth == 2 {
                    note(&mut found, &name, text, start, &reader)?;
                }
                depth = depth.checked_sub(1)?;
            }
            _ => {}
        }
    }
    Some(found.into_iter().map(|(name, value)| (name, Cow::Owned(value))).collect())
}

fn note(
    found: &mut BTreeMap<String, String>,
    name: &str,
    text: &str,
    start: usize,
    reader: &Reader<&[u8]>,
) -> Option<()> {
    let end = usize::try_from(reader.buffer_position()).ok()?;
    let element = text.get(start..end)?;
    found.entry(name.to_owned()).or_default().push_str(element.trim());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_differ_are_named_and_nothing_else() {
        let first = br#"{"id":1,"total":"10.00","note":"a \" b","lines":[1, 2],"gone":1}"#;
        let second = br#"{ "lines":[1,2], "total" : "12.00","note":"a \"  b","id":1,"a/b~":2 }"#;
        assert_eq!(
            differing(Format::Shopify, first, second),
            ["/a~1b~0", "/gone", "/note", "/total"]
        );
        assert!(differing(Format::Shopify, first, b"[]").is_empty());
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(65));
        assert_eq!(differing(Format::Shopify, b"{}", long.as_bytes()), [""; 0]);
    }

    #[test]
    fn elements_that_differ_are_named() {
        let first =
            "<order order-no=\"1\"><status><s>NEW</s></status><note/><total>10</total></order>";
        let second =
            "<order order-no=\"1\">\n <status><s>NEW</s></status>\n <total>12</total></order>";
        assert_eq!(
            differing(Format::B2cCommerceXml, first.as_bytes(), second.as_bytes()),
            ["/note", "/total"]
        );
    }
}
