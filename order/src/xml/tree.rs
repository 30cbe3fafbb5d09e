//! One item as elements, for the summary.

use std::borrow::Cow;

use super::Fault;
use super::tokens::{Attribute, Token, Tokens};
use crate::UnreadableKind::{Depth, Encoding, Syntax, TooLarge};

/// Nesting that the tree takes; above every sensible [`crate::Limits::depth`].
const DEPTH_MAX: usize = 256;

/// Elements that the tree takes: 2,000 lines of 60 elements and as much again.
const ELEMENTS_MAX: usize = 250_000;

/// An element with its own text and its children.
#[derive(Debug, Default)]
pub(crate) struct Element<'a> {
    pub(crate) name: &'a str,
    pub(crate) attributes: Vec<Attribute<'a>>,
    pub(crate) children: Vec<Element<'a>>,
    text: Cow<'a, str>,
}

impl<'a> Element<'a> {
    /// The root element of `bytes`.
    ///
    /// # Errors
    /// The first [`Fault`], or a document deeper or larger than any order.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Fault::new(Encoding, error.valid_up_to(), "not UTF-8"))?;
        let mut tokens = Tokens::new(text);
        let mut open: Vec<Element<'a>> = Vec::new();
        let mut elements = 0;
        loop {
            let token = tokens.next()?;
            if let Some(fault) = tokens.take_fault() {
                return Err(fault);
            }
            let at = tokens.span().start;
            match token {
                Token::Start(name, attributes) => {
                    elements += 1;
                    if open.len() >= DEPTH_MAX {
                        return Err(Fault::new(Depth, at, "elements nested too deep"));
                    }
                    if elements > ELEMENTS_MAX {
                        return Err(Fault::new(TooLarge, at, "too many elements"));
                    }
                    open.push(Element { name, attributes, ..Element::default() });
                }
                Token::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        match element.text.is_empty() {
                            true => element.text = text,
                            false => element.text.to_mut().push_str(&text),
                        }
                    }
                }
                Token::End => {
                    let Some(element) = open.pop() else { continue };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Ok(element),
                    }
                }
                Token::Aside => {}
                Token::Done => return Err(Fault::new(Syntax, at, "no root element")),
            }
        }
    }

    /// Its text, trimmed; `None` if blank.
    pub(crate) fn text(&self) -> Option<&str> {
        Some(self.text.trim()).filter(|text| !text.is_empty())
    }

    /// The attribute of that name, trimmed; `None` if blank.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(key, _)| *key == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name.
    pub(crate) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// All grandchildren of that name under each child of the name `list`.
    pub(crate) fn each<'s>(
        &'s self,
        list: &'s str,
        name: &'s str,
    ) -> impl Iterator<Item = &'s Self> {
        self.all(list).flat_map(move |list| list.all(name))
    }

    /// Text of the first child of that name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name)?.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order_and_text() {
        let tree = Element::parse(b"<a k=' v '> x<!--c-->y <b>1</b><c/><b>2</b> z</a>").unwrap();
        assert_eq!(tree.attribute("k"), Some("v"));
        assert_eq!(tree.text(), Some("xy  z"));
        let texts: Vec<_> = tree.all("b").filter_map(Element::text).collect();
        assert_eq!(texts, ["1", "2"]);
        assert_eq!((tree.text_of("c"), tree.text_of("d")), (None, None));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
        assert_eq!(Element::parse(deep.as_bytes()).unwrap_err().kind, Depth);
        let wide = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        assert_eq!(Element::parse(wide.as_bytes()).unwrap_err().kind, TooLarge);
        assert_eq!(Element::parse(b"").unwrap_err().kind, Syntax);
    }
}
