//! Card data in a JSON item: which strings are looked at.

use std::ops::ControlFlow;

use super::path::{Event, Step, step_is, walk};
use crate::MaskedSpan;
use crate::mask;

/// Pending values of one object; more than this many "value" members in one object are not expected.
const PENDING_MAX: usize = 4;

/// Longer texts are no verification value, blanks around it counted.
const VALUE_MAX: usize = 16;

/// The spans to mask in `item`: card numbers and verification values in the strings that `paths` name.
///
/// A path is a JSON pointer in which `*` stands for one step and a last `**` for any number of steps,
/// none included. A verification value is known by its member's name, or by the `name` or `key` beside
/// its `value`. JSON numbers are never touched, and names of members neither.
pub(super) fn spans(item: &[u8], paths: &[&str]) -> Vec<MaskedSpan> {
    let mut spans = Vec::new();
    let mut objects: Vec<Labelled> = Vec::new();
    walk(item, |steps, event| {
        match event {
            Event::Open(_) => objects.push(Labelled::default()),
            Event::Close(_) => {
                if let Some(Labelled { verification: true, values }) = objects.pop() {
                    for (start, end) in values {
                        let text = item.get(start..end).unwrap_or_default();
                        mask::verification_value(text, start, &mut spans);
                    }
                }
            }
            Event::Text(start, end) => {
                text(item, steps, paths, (start, end), &mut objects, &mut spans)
            }
            Event::Other(..) => {}
        }
        ControlFlow::Continue(())
    });
    spans.sort_unstable_by_key(|span| span.start);
    spans
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
    spans: &mut Vec<MaskedSpan>,
) {
    let text = item.get(start..end).unwrap_or_default();
    let named = |name: &str| steps.last().is_some_and(|step| step_is(item, *step, name));
    if (named("name") || named("key"))
        && mask::is_verification_name(text)
        && let Some(object) = objects.last_mut()
    {
        object.verification = true;
    }
    let own = match steps.last() {
        Some(Step::Name(from, to)) => item.get(*from..*to).unwrap_or_default(),
        _ => &[],
    };
    // Rare finds first, since asking where a text stands costs more.
    let before = spans.len();
    segments(text, start, spans);
    if mask::is_verification_name(own) {
        mask::verification_value(text, start, spans);
    }
    let labelled = text.len() <= VALUE_MAX && (named("value") || named("display_value"));
    if spans.len() == before && !labelled {
        return;
    }
    if !paths.iter().any(|path| matches(item, steps, path)) {
        spans.truncate(before);
    } else if labelled
        && let Some(object) = objects.last_mut()
        && object.values.len() < PENDING_MAX
    {
        object.values.push((start, end));
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
