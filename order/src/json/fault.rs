//! What is wrong with an item, before its place is known in lines and columns.

use std::borrow::Cow;

use crate::UnreadableKind;

/// A fault and where it is. Its message never holds a value from the body.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(super) kind: UnreadableKind,
    pub(super) place: Place,
    pub(super) message: Cow<'static, str>,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Byte of the body.
    Offset(usize),
    /// JSON pointer within the item.
    Pointer(String),
}

impl Fault {
    pub(super) fn at(
        kind: UnreadableKind,
        offset: usize,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, place: Place::Offset(offset), message: message.into() }
    }

    /// A fault of the value that `pointer` names within the item; the empty pointer is the item itself.
    pub(crate) fn of(
        kind: UnreadableKind,
        pointer: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, place: Place::Pointer(pointer.into()), message: message.into() }
    }
}
