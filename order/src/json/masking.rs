//! Card data in a JSON item: which values are looked at.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::path::{Event, Step, step_is, walk};
use super::token::byte;
use crate::MaskedSpan;
use crate::mask;

/// Pending values of one object; more than this many "value" members in one object are not expected.
const PENDING_MAX: usize = 4;

/// Longer texts are no verification value, blanks around it counted.
const VALUE_MAX: usize = 16;

/// Most digits of a verification value.
const CODE_MAX: usize = 4;

/// Masks card numbers and verification values in the values that `paths` name; says where.
///
/// A path is a JSON pointer in which `*` stands for one step and a last `**` for any number of steps,
/// none included. A verification value is known by its member's name, or by the `name` or `key` beside
/// its `value`. A number is a card number only as a whole, and never where its member's name ends with `id`. Names of members
/// are never touched.
pub(super) fn masked(item: Bytes, paths: &[&str]) -> (Bytes, Vec<MaskedSpan>) {
    let mut found = Found::default();
    let mut objects: Vec<Labelled> = Vec::new();
    walk(&item, |steps, event| {
        match event {
            Event::Open(_) => objects.push(Labelled::default()),
            Event::Close(_) => {
                if let Some(Labelled { verification: true, values }) = objects.pop() {
                    for (start, end) in values {
                        found.verification_value(&item, start, end);
                    }
                }
            }
            Event::Text(start, end) => {
                text(&item, steps, paths, (start, end), &mut objects, &mut found)
            }
            Event::Other(start, end) => {
                number(&item, steps, paths, (start, end), &mut objects, &mut found)
            }
        }
        ControlFlow::Continue(())
    });
    found.apply(item)
}

/// What is to be masked.
#[derive(Default)]
struct Found {
    spans: Vec<MaskedSpan>,
    /// Those of `spans` that are whole numbers.
    numbers: Vec<MaskedSpan>,
}

impl Found {
    /// A string's text or a number that is known for a verification value, if it looks like one.
    fn verification_value(&mut self, item: &[u8], start: usize, end: usize) {
        let value = item.get(start..end).unwrap_or_default();
        let is_text = start > 0 && byte(item, start - 1) == b'"';
        if is_text {
            mask::verification_value(value, start, &mut self.spans);
        } else if value.len() <= CODE_MAX && value.iter().all(u8::is_ascii_digit) {
            // Zeros before it are lost in a number, so it may be short.
            self.number(start, value.len());
        }
    }

    fn number(&mut self, start: usize, len: usize) {
        mask::push(&mut self.numbers, start, len);
        mask::push(&mut self.spans, start, len);
    }

    /// Digits become `*`. A number must stay a value: `"**"` of the same length, or 0 for one digit. Zeros instead would be
    /// no number (`0000`), and any other digits a number nobody sent.
    fn apply(mut self, item: Bytes) -> (Bytes, Vec<MaskedSpan>) {
        self.spans.sort_unstable_by_key(|span| span.start);
        let masked = mask::apply(item, &self.spans);
        if self.numbers.is_empty() {
            return (masked, self.spans);
        }
        let mut masked = masked.to_vec();
        for number in &self.numbers {
            let start = number.start as usize;
            match masked.get_mut(start..start + number.len as usize) {
                Some([only]) => *only = b'0',
                Some([first, .., last]) => (*first, *last) = (b'"', b'"'),
                _ => {}
            }
        }
        (masked.into(), self.spans)
    }
}

/// An open object, as far as a verification value needs it.
#[derive(Default)]
struct Labelled {
    verification: bool,
    values: Vec<(usize, usize)>,
}

fn text(
    item: &[u8],
    steps: &[Step],
    paths: &[&str],
    (start, end): (usize, usize),
    objects: &mut [Labelled],
    found: &mut Found,
) {
    let text = item.get(start..end).unwrap_or_default();
    let named = |name: &str| steps.last().is_some_and(|step| step_is(item, *step, name));
    if (named("name") || named("key"))
        && mask::is_verification_name(text)
        && let Some(object) = objects.last_mut()
    {
        object.verification = true;
    }
    // Rare finds first, since asking where a text stands costs more.
    let before = found.spans.len();
    segments(text, start, &mut found.spans);
    if mask::is_verification_name(own_name(item, steps)) {
        mask::verification_value(text, start, &mut found.spans);
    }
    let labelled = text.len() <= VALUE_MAX && is_labelled(item, steps);
    if found.spans.len() == before && !labelled {
        return;
    }
    if !paths.iter().any(|path| matches(item, steps, path)) {
        found.spans.truncate(before);
    } else if labelled {
        pending(objects, (start, end));
    }
}

/// A number that is a verification value or a card number.
fn number(
    item: &[u8],
    steps: &[Step],
    paths: &[&str],
    (start, end): (usize, usize),
    objects: &mut [Labelled],
    found: &mut Found,
) {
    let name = own_name(item, steps);
    let short = end - start <= CODE_MAX;
    let named = short && mask::is_verification_name(name);
    let labelled = short && is_labelled(item, steps);
    // Many identifiers are long numbers, and one in ten has a right check digit.
    let card = mask::is_card_number(item.get(start..end).unwrap_or_default()) && !names_an_id(name);
    if !(named || labelled || card) {
        return;
    }
    if paths.iter().any(|path| matches(item, steps, path)) {
        if card {
            found.number(start, end - start);
        } else if named {
            found.verification_value(item, start, end);
        } else {
            pending(objects, (start, end));
        }
    }
}

/// The name of the member that a value is of, as written.
fn own_name<'i>(item: &'i [u8], steps: &[Step]) -> &'i [u8] {
    match steps.last() {
        Some(Step::Name(from, to)) => item.get(*from..*to).unwrap_or_default(),
        _ => &[],
    }
}

/// Whether a member of that name holds an identifier.
fn names_an_id(name: &[u8]) -> bool {
    name.last_chunk::<2>().is_some_and(|end| end.eq_ignore_ascii_case(b"id"))
}

/// Whether a value is of a member that another one beside it may name.
fn is_labelled(item: &[u8], steps: &[Step]) -> bool {
    let named = |name: &str| steps.last().is_some_and(|step| step_is(item, *step, name));
    named("value") || named("display_value")
}

/// Keeps a value until its object ends and it is known what the object is about.
fn pending(objects: &mut [Labelled], value: (usize, usize)) {
    if let Some(object) = objects.last_mut()
        && object.values.len() < PENDING_MAX
    {
        object.values.push(value);
    }
}

/// Escapes part digits: the four hexadecimal digits of `\u2022` are no digits of the text.
fn segments(text: &[u8], offset: usize, spans: &mut Vec<MaskedSpan>) {
    let mut from = 0;
    while let Some(escape) =
        memchr::memchr(b'\\', text.get(from..).unwrap_or_default()).map(|at| from + at)
    {
        mask::card_numbers(text.get(from..escape).unwrap_or_default(), offset + from, spans);
        from = escape + if text.get(escape + 1) == Some(&b'u') { 6 } else { 2 };
    }
    mask::card_numbers(text.get(from..).unwrap_or_default(), offset + from, spans);
}

fn matches(item: &[u8], steps: &[Step], path: &str) -> bool {
    let mut steps = steps.iter();
    for token in path.split('/').skip(1) {
        match (token, steps.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (token, Some(step)) if step_is(item, *step, token) => {}
            _ => return false,
        }
    }
    steps.next().is_none()
}
