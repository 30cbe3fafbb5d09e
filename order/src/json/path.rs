//! Places in an item: from a byte to a JSON pointer and back (RFC 6901).
//!
//! Only on rare ways: a fault, a configured source pointer, a suspected card number. The walk takes
//! no recursion, stops quietly where the text is malformed, and goes no deeper than [`DEPTH_MAX`].

use std::ops::ControlFlow;

use super::fault::Fault;
use super::token::{blanks, byte, unescape};
use crate::UnreadableKind;

/// Deeper places have no pointer.
const DEPTH_MAX: usize = 256;

/// Longer pointers are not reported.
const POINTER_MAX: usize = 1024;

/// From a container to one value in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Member, by the bytes of its name as written, between the quotes.
    Name(usize, usize),
    /// Element.
    Index(usize),
}

/// What the walk meets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// An object or array begins.
    Open(usize),
    /// An object or array ends with the bracket here.
    Close(usize),
    /// A string, by its bytes between the quotes.
    Text(usize, usize),
    /// A number or literal.
    Other(usize, usize),
}

impl Event {
    /// Where the value begins; `None` for its end.
    fn start(self) -> Option<usize> {
        match self {
            Self::Open(at) | Self::Other(at, _) => Some(at),
            Self::Text(at, _) => Some(at.saturating_sub(1)),
            Self::Close(_) => None,
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Open(at) | Self::Other(at, _) | Self::Close(at) => at,
            Self::Text(at, _) => at.saturating_sub(1),
        }
    }
}

/// Walks the value in `item`, giving each event with the steps that lead to its value.
pub(super) fn walk(
    item: &[u8],
    mut visit: impl FnMut(&[Step], Event) -> ControlFlow<()>,
) -> Option<()> {
    let mut steps: Vec<Step> = Vec::new();
    let mut at = blanks(item, 0);
    loop {
        match byte(item, at) {
            open @ (b'{' | b'[') => {
                proceed(visit(&steps, Event::Open(at)))?;
                at = blanks(item, at + 1);
                if matches!(byte(item, at), b'}' | b']') {
                    proceed(visit(&steps, Event::Close(at)))?;
                    at += 1;
                } else {
                    if steps.len() == DEPTH_MAX {
                        return None;
                    }
                    steps.push(if open == b'{' { name(item, &mut at)? } else { Step::Index(0) });
                    continue;
                }
            }
            b'"' => {
                let end = string_end(item, at)?;
                proceed(visit(&steps, Event::Text(at + 1, end)))?;
                at = end + 1;
            }
            _ => {
                let end = scalar_end(item, at);
                if end == at {
                    return None;
                }
                proceed(visit(&steps, Event::Other(at, end)))?;
                at = end;
            }
        }
        loop {
            let last = *steps.last()?;
            at = blanks(item, at);
            match byte(item, at) {
                b',' => {
                    at = blanks(item, at + 1);
                    steps.pop();
                    steps.push(match last {
                        Step::Index(index) => Step::Index(index + 1),
                        Step::Name(..) => name(item, &mut at)?,
                    });
                    break;
                }
                b'}' | b']' => {
                    steps.pop();
                    proceed(visit(&steps, Event::Close(at)))?;
                    at += 1;
                }
                _ => return None,
            }
        }
    }
}

fn proceed(flow: ControlFlow<()>) -> Option<()> {
    flow.is_continue().then_some(())
}

/// Reads a member's name and colon; leaves `at` on the value.
fn name(item: &[u8], at: &mut usize) -> Option<Step> {
    let start = *at;
    if byte(item, start) != b'"' {
        return None;
    }
    let end = string_end(item, start)?;
    let colon = blanks(item, end + 1);
    if byte(item, colon) != b':' {
        return None;
    }
    *at = blanks(item, colon + 1);
    Some(Step::Name(start + 1, end))
}

/// The closing quote of the string that opens at `at`.
fn string_end(item: &[u8], at: usize) -> Option<usize> {
    let mut here = at + 1;
    loop {
        here += memchr::memchr2(b'"', b'\\', item.get(here..)?)?;
        if byte(item, here) == b'"' {
            return Some(here);
        }
        here += 2;
    }
}

fn scalar_end(item: &[u8], at: usize) -> usize {
    let rest = item.get(at..).unwrap_or_default();
    let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    at + rest.iter().position(|b| !part(b)).unwrap_or(rest.len())
}

/// The pointer of the innermost value that `offset` belongs to, or follows.
pub(super) fn pointer_at(item: &[u8], offset: usize) -> Option<String> {
    // Counted first and copied once: the steps of every event before it would be gigabytes.
    let mut events = 0usize;
    walk(item, |_, event| {
        if event.place() > offset {
            return ControlFlow::Break(());
        }
        events += 1;
        ControlFlow::Continue(())
    });
    let mut best: Vec<Step> = Vec::new();
    walk(item, |steps, _| {
        events = events.saturating_sub(1);
        if events > 0 {
            return ControlFlow::Continue(());
        }
        best.extend_from_slice(steps);
        ControlFlow::Break(())
    });
    pointer(item, &best)
}

fn pointer(item: &[u8], steps: &[Step]) -> Option<String> {
    let mut out = String::new();
    for step in steps {
        out.push('/');
        match *step {
            Step::Index(index) => out.push_str(&index.to_string()),
            Step::Name(start, end) => {
                let raw = unescape(item.get(start..end)?);
                push_token(&mut out, std::str::from_utf8(&raw).ok()?);
            }
        }
        if out.len() > POINTER_MAX {
            return None;
        }
    }
    Some(out)
}

/// Appends a reference token, with `~` and `/` escaped.
pub(super) fn push_token(out: &mut String, token: &str) {
    for c in token.chars() {
        match c {
            '~' => out.push_str("~0"),
            '/' => out.push_str("~1"),
            other => out.push(other),
        }
    }
}

fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect()
}

/// Whether a step is the one that `token` names. Asked of every value below a member, so a name much longer
/// than the token is not looked at: one byte is at most six as an escape.
pub(super) fn step_is(item: &[u8], step: Step, token: &str) -> bool {
    match step {
        Step::Index(index) => token.parse() == Ok(index),
        Step::Name(start, end) => {
            let name = item.get(start..end).unwrap_or_default();
            let may_be = token.len()..=token.len() * 6;
            may_be.contains(&name.len()) && *unescape(name) == *token.as_bytes()
        }
    }
}

/// Where the value that `pointer` names begins: the first and the last of that name.
pub(super) fn find(item: &[u8], pointer: &str) -> Option<(usize, usize)> {
    let tokens = tokens(pointer);
    let mut found: Option<(usize, usize)> = None;
    walk(item, |steps, event| {
        let here = steps.len() == tokens.len()
            && steps.iter().zip(&tokens).all(|(step, token)| step_is(item, *step, token));
        if let (true, Some(start)) = (here, event.start()) {
            found = Some((found.map_or(start, |(first, _)| first), start));
        }
        ControlFlow::Continue(())
    });
    found
}

/// The text or number that `pointer` names; `None` where there is none, or something else.
///
/// # Errors
/// A member on the way is there twice.
pub(super) fn text_at(item: &[u8], pointer: &str) -> Result<Option<String>, Fault> {
    let tokens = tokens(pointer);
    let mut seen = vec![0usize; tokens.len() + 1];
    let mut text = None;
    walk(item, |steps, event| {
        let on_the_way = event.start().is_some()
            && steps.len() <= tokens.len()
            && steps.iter().zip(&tokens).all(|(step, token)| step_is(item, *step, token));
        if on_the_way {
            if let Some(count) = seen.get_mut(steps.len()) {
                *count += 1;
            }
            if steps.len() == tokens.len() {
                text = scalar(item, event);
            }
        }
        ControlFlow::Continue(())
    });
    if seen.iter().any(|count| *count > 1) {
        let message = "a member that names the source is there twice; send it once";
        return Err(Fault::of(UnreadableKind::DuplicateMember, pointer, message));
    }
    Ok(text)
}

fn scalar(item: &[u8], event: Event) -> Option<String> {
    let raw = match event {
        Event::Text(start, end) => unescape(item.get(start..end)?),
        Event::Other(start, end) => {
            let raw = item.get(start..end)?;
            raw.first().filter(|b| b.is_ascii_digit() || **b == b'-')?;
            raw.into()
        }
        Event::Open(_) | Event::Close(_) => return None,
    };
    String::from_utf8(raw.into_owned()).ok()
}
