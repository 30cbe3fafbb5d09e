//! What is wrong with an item, before its place is known in lines and columns.

use std::borrow::Cow;

use crate::UnreadableKind;

/// A fault and where it is. Its message never holds a value from the body. It is rare and what can end in it is done for
/// every token, so it is one word.
#[derive(Clone, Debug)]
pub(crate) struct Fault(Box<Parts>);

#[derive(Clone, Debug)]
pub(super) struct Parts {
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
        Self::new(kind, Place::Offset(offset), message.into())
    }

    /// A fault of the value that `pointer` names within the item; the empty pointer is the item itself.
    pub(crate) fn of(
        kind: UnreadableKind,
        pointer: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(kind, Place::Pointer(pointer.into()), message.into())
    }

    #[cold]
    fn new(kind: UnreadableKind, place: Place, message: Cow<'static, str>) -> Self {
        Self(Box::new(Parts { kind, place, message }))
    }

    pub(super) fn kind(&self) -> UnreadableKind {
        self.0.kind
    }

    pub(super) fn into_parts(self) -> Parts {
        *self.0
    }
}
