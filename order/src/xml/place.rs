//! From a byte offset to the line and column a person looks for.

use crate::Unreadable;

use super::Fault;

/// Counts lines and columns of a body. Asked for rising offsets it walks the body once in all, so
/// ten thousand faults cost no more than one.
pub(crate) struct Places<'a> {
    body: &'a [u8],
    first: usize,
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Places<'a> {
    /// Places in `body`, whose text begins at byte `first` (after a byte order mark).
    pub(crate) fn new(body: &'a [u8], first: usize) -> Self {
        Self { body, first, at: first, line: 1, column: 1 }
    }

    /// The fault as the caller sees it, with its line and its column in characters, both from 1.
    pub(crate) fn unreadable(&mut self, fault: &Fault) -> Unreadable {
        let to = fault.at.min(self.body.len());
        if to < self.at {
            (self.at, self.line, self.column) = (self.first, 1, 1);
        }
        for byte in self.body.get(self.at..to).unwrap_or_default() {
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 1),
                0x80..=0xbf => {}
                _ => self.column += 1,
            }
        }
        self.at = to.max(self.at);
        Unreadable {
            kind: fault.kind,
            pointer: None,
            line: self.line,
            column: self.column,
            message: fault.message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnreadableKind;

    #[test]
    fn columns_count_characters_and_offsets_may_go_back() {
        let body = "a\nbé€x\ny".as_bytes();
        let mut places = Places::new(body, 0);
        let mut at = |at| {
            let found = places.unreadable(&Fault::new(UnreadableKind::Syntax, at, ""));
            (found.line, found.column)
        };
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(8), (2, 4), "x comes after b, é and €");
        assert_eq!(at(10), (3, 1));
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(99), (3, 2), "past the end");
    }
}
