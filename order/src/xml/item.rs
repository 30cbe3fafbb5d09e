//! One item while it is read: its path, its text, its token stream, its first fault.

use std::borrow::Cow;

use super::document::{Complaint, Facts, Shape};
use super::tokens::Attribute;
use super::{Fault, cards};
use crate::UnreadableKind::Depth;
use crate::{Fingerprint, ReadOptions};

/// The item being read.
pub(super) struct Reading<'a, F> {
    pub(super) start: usize,
    pub(super) is_item: bool,
    pub(super) facts: F,
    /// The first thing wrong; what follows is walked over but no longer looked at.
    pub(super) fault: Option<Fault>,
    /// An element is named like a card verification value.
    pub(super) verification: bool,
    /// The fingerprint's tokens.
    pub(super) stream: Stream,
    /// Elements open inside the item.
    depth: usize,
    /// Their names, as far as the limit on depth allows.
    path: Vec<&'a str>,
    text: Option<Cow<'a, str>>,
    /// Depth of the volatile element the walk is in.
    volatile: Option<usize>,
}

impl<'a, F: Facts> Reading<'a, F> {
    /// An item whose start tag at `start` is `name` with `attributes`.
    pub(super) fn begin(
        start: usize,
        (name, attributes): (&'a str, &[Attribute<'a>]),
        is_item: bool,
        facts: F,
        stream: Stream,
    ) -> Self {
        let (path, text, fault) = (Vec::new(), None, None);
        let (depth, volatile, verification) = (0, None, false);
        let mut reading = Self {
            start,
            is_item,
            facts,
            fault,
            verification,
            stream,
            depth,
            path,
            text,
            volatile,
        };
        reading.stream.start(name, attributes);
        if is_item && let Err(complaint) = reading.facts.open(&[], attributes) {
            reading.complain(complaint, start);
        }
        reading
    }

    /// Condemns the item, unless something before did.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn complain(&mut self, complaint: Complaint, at: usize) {
        self.fail(Fault::new(complaint.0, at, complaint.1));
    }

    /// An element begins inside the item.
    pub(super) fn open(
        &mut self,
        name: &'a str,
        attributes: &[Attribute<'a>],
        at: usize,
        shape: &Shape,
        options: &ReadOptions<'_>,
    ) {
        self.flush(at);
        // The item itself and the list around it count too.
        if self.depth + 2 >= options.limits.depth {
            self.fail(Fault::new(Depth, at, "elements nested deeper than allowed"));
        }
        self.depth += 1;
        if self.fault.is_some() {
            return;
        }
        self.path.push(name);
        let top_ignored = |top: &&str| options.fingerprint_ignore.iter().any(|name| name == top);
        let ignored = matches!(&*self.path, [top] if top_ignored(top));
        if self.volatile.is_none() && (ignored || shape.volatile.contains(&&*self.path)) {
            self.volatile = Some(self.depth);
        }
        if self.volatile.is_none() {
            self.stream.start(name, attributes);
        }
        let naming = shape.cards.name_attribute;
        self.verification |= cards::names_verification(name, attributes, naming);
        if self.is_item
            && let Err(complaint) = self.facts.open(&self.path, attributes)
        {
            self.complain(complaint, at);
        }
    }

    /// A piece of text; it is complete when the next tag comes.
    pub(super) fn gather(&mut self, piece: Cow<'a, str>) {
        match &mut self.text {
            _ if self.fault.is_some() => {}
            Some(text) => text.to_mut().push_str(&piece),
            None => self.text = Some(piece),
        }
    }

    /// An element ends, before byte `at`; true if it was the item itself.
    pub(super) fn close(&mut self, at: usize) -> bool {
        self.flush(at);
        match self.volatile {
            Some(depth) if depth == self.depth => self.volatile = None,
            Some(_) => {}
            None if self.fault.is_none() => self.stream.end(),
            None => {}
        }
        if self.depth == 0 {
            return true;
        }
        self.depth -= 1;
        self.path.truncate(self.depth);
        false
    }

    fn flush(&mut self, at: usize) {
        let Some(text) = self.text.take() else { return };
        let text = trim(&text);
        if text.is_empty() || self.fault.is_some() {
            return;
        }
        if self.volatile.is_none() {
            self.stream.text(text);
        }
        if self.is_item
            && let Err(complaint) = self.facts.text(&self.path, text)
        {
            self.complain(complaint, at);
        }
    }
}

/// The tokens that the fingerprint is taken of, each with its length. Its memory is used again.
#[derive(Default)]
pub(super) struct Stream(Vec<u8>);

impl Stream {
    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn start(&mut self, name: &str, attributes: &[Attribute<'_>]) {
        self.put(b'S', name);
        for (name, value) in attributes {
            self.put(b'A', name);
            self.put(b'V', value);
        }
    }

    fn text(&mut self, text: &str) {
        self.put(b'T', text);
    }

    fn end(&mut self) {
        self.0.push(b'E');
    }

    fn put(&mut self, tag: u8, text: &str) {
        self.0.push(tag);
        self.0.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// BLAKE3, cut to 128 bits.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let hash = blake3::hash(&self.0);
        let mut out = [0; 16];
        out.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Fingerprint(out)
    }
}

fn trim(text: &str) -> &str {
    let is_text = |byte: u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let Some(start) = text.bytes().position(is_text) else { return "" };
    let end = text.bytes().rposition(is_text).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Whether there is nothing but blanks, as XML has them.
pub(super) fn is_blank(text: &str) -> bool {
    trim(text).is_empty()
}
