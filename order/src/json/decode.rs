//! The typed decoder over the tape, and a second, slower run of it that explains a failure.

use serde::Deserialize;

use super::fault::Fault;
use super::field::{TOO_MANY, start_counting};
use super::path::push_token;
use super::tape::Tape;
use crate::UnreadableKind;

/// Decodes one item, which has this tape and this text.
///
/// # Errors
/// Its values are not of the types asked for.
pub(super) fn typed<'q, T: Deserialize<'q>>(tape: &Tape, text: &'q str) -> Result<T, Fault> {
    start_counting();
    T::deserialize(tape.of(text).root()).map_err(|_| explain::<T>(tape, text))
}

/// Why the typed decoder failed, and where.
fn explain<'q, T: Deserialize<'q>>(tape: &Tape, text: &'q str) -> Fault {
    start_counting();
    let outcome: Result<T, _> = serde_path_to_error::deserialize(tape.of(text).root());
    let Err(error) = outcome else {
        return Fault::of(UnreadableKind::Value, "", "the item cannot be decoded");
    };
    let mut pointer = pointer(error.path());
    let text = error.inner().to_string();
    if text == TOO_MANY {
        return Fault::of(UnreadableKind::TooLarge, pointer, TOO_MANY);
    }
    if let Some(name) = duplicate(&text) {
        let named = pointer.rsplit('/').next().is_some_and(|last| last == name);
        if !named {
            pointer.push('/');
            push_token(&mut pointer, name);
        }
        let message = "this member is there twice, and which one counts is uncertain; send it once";
        return Fault::of(UnreadableKind::DuplicateMember, pointer, message);
    }
    Fault::of(UnreadableKind::Value, pointer, plain(text))
}

/// The name in serde's own words for a member given twice.
fn duplicate(message: &str) -> Option<&str> {
    message.strip_prefix("duplicate field `")?.strip_suffix('`')
}

/// The message without any value: of a type mismatch only what was expected.
fn plain(message: String) -> String {
    if message.starts_with("invalid ") {
        let wanted = message.rsplit_once(", expected ").map_or("another value", |(_, w)| w);
        return format!("expected {wanted}");
    }
    message
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        out.push('/');
        push_token(&mut out, &token);
    }
    out
}
