//! Lines and columns, counted only when there is a fault to report.

/// Counts forward through a body, so that reporting many faults costs one walk of the body and one of
/// each faulty item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    offset: usize,
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

impl Place {
    pub(super) fn start() -> Self {
        Self { offset: 0, line: 1, column: 1 }
    }

    /// The place of byte `offset`, which must not be before this one.
    pub(super) fn advance(self, body: &[u8], offset: usize) -> Self {
        let offset = offset.clamp(self.offset, body.len());
        let passed = body.get(self.offset..offset).unwrap_or_default();
        let lines = memchr::memchr_iter(b'\n', passed).count();
        let column = match memchr::memrchr(b'\n', passed) {
            Some(newline) => 1 + characters(passed.get(newline + 1..).unwrap_or_default()),
            None => self.column + characters(passed),
        };
        Self { offset, line: self.line + lines, column }
    }
}

/// Characters, as the bytes that begin one. A byte order mark is none.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b & 0xc0 != 0x80).count()
}
