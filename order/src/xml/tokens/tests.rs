use super::*;

fn all(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut tokens = Tokens::new(text);
    let mut out = Vec::new();
    loop {
        let token = tokens.next()?;
        if let Some(fault) = tokens.take_fault() {
            return Err(fault);
        }
        match token {
            Token::Done => return Ok(out),
            token => out.push(token),
        }
    }
}

fn kind(text: &str) -> Option<UnreadableKind> {
    all(text).err().map(|fault| fault.kind)
}

#[test]
fn prefixes_and_namespace_declarations_are_dropped() {
    let tokens = all("<o:a xmlns:o='urn:x' z='1' b='2'/>").unwrap();
    let attributes = vec![("b", Cow::from("2")), ("z", Cow::from("1"))];
    assert_eq!(tokens, [Token::Start("a", attributes), Token::End]);
}

#[test]
fn text_comes_resolved() {
    let tokens = all("<a>1 &lt;<![CDATA[&<]]>&#x41;<!-- c --><?p?></a>").unwrap();
    let text: String = tokens
        .iter()
        .filter_map(|token| if let Token::Text(text) = token { Some(&**text) } else { None })
        .collect();
    assert_eq!(text, "1 <&<A");
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for text in [
        "<a></b>",
        "</a>",
        "<a",
        "<a x=1/>",
        "<a x/>",
        "<a x='1' x='2'/>",
        "<a x='<'/>",
        "<1/>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#zz;</a>",
        "<a>AT & T</a>",
        "<a>]]></a>",
        "<a/><?xml version='1.0'?>",
        "<a><!-- </a>",
        "<a><![CDATA[ </a>",
    ] {
        assert_eq!(kind(text), Some(Syntax), "{text}");
    }
}

#[test]
fn entities_document_types_and_other_encodings_are_refused() {
    assert_eq!(kind("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Some(Dtd));
    assert_eq!(kind("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>"), Some(Dtd));
    assert_eq!(kind("<a>&nbsp;</a>"), Some(Dtd));
    assert_eq!(kind("<a x='&nbsp;'/>"), Some(Dtd));
    assert_eq!(kind("<?xml version='1.0' encoding='ISO-8859-1'?><a/>"), Some(Encoding));
    assert_eq!(kind("<?xml version='1.0' encoding='utf-8'?><a/>"), None);
}

#[test]
fn very_many_attributes_end_early() {
    let many: String = (0..200_000).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(kind(&format!("<a{many}/>")), Some(TooLarge));
}

/// What each token is and where it stands, up to the fault that ends all.
fn ours(text: &str) -> Vec<(char, Range<usize>)> {
    let mut tokens = Tokens::new(text);
    let mut out = Vec::new();
    loop {
        let kind = match tokens.next() {
            Ok(Token::Start(..)) => 'S',
            Ok(Token::End) => 'E',
            Ok(Token::Text(_)) => 'T',
            Ok(Token::Aside) => 'A',
            Ok(Token::Done) => 'D',
            Err(fault) => {
                out.push(('!', fault.at..fault.at));
                return out;
            }
        };
        out.push((kind, tokens.span()));
        if kind == 'D' {
            return out;
        }
    }
}

/// The same as quick-xml alone tells it.
fn theirs(text: &str) -> Vec<(char, Range<usize>)> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut out = Vec::new();
    loop {
        let start = usize::try_from(reader.buffer_position()).unwrap();
        let event = reader.read_event();
        let span = start..usize::try_from(reader.buffer_position()).unwrap();
        let known = |reference: &BytesRef<'_>| match reference.resolve_char_ref() {
            Ok(Some(found)) => is_char(found),
            Ok(None) => quick_xml::escape::resolve_xml_entity(reference).is_some(),
            Err(_) => false,
        };
        let kind = match event {
            Ok(Event::Start(_)) => 'S',
            Ok(Event::End(_)) => 'E',
            Ok(Event::Text(_) | Event::CData(_)) => 'T',
            Ok(Event::GeneralRef(reference)) if known(&reference) => 'T',
            Ok(Event::Comment(_) | Event::PI(_)) => 'A',
            Ok(Event::Eof) => 'D',
            Ok(Event::GeneralRef(_)) | Err(Error::IllFormed(IllFormedError::UnclosedReference)) => {
                continue;
            }
            Ok(_) => {
                out.push(('!', start..start));
                return out;
            }
            Err(_) => {
                let at = usize::try_from(reader.error_position()).unwrap();
                out.push(('!', at..at));
                return out;
            }
        };
        out.push((kind, span));
        if kind == 'D' {
            return out;
        }
    }
}

const PIECES: [&str; 34] = [
    "<a>",
    "</a>",
    "<b c='>' d=\"'>\">",
    "</b>",
    "</b >",
    "<a/>",
    "<a />",
    "<o:é x=''/>",
    "<",
    ">",
    "</",
    "/>",
    "<!-- c -->",
    "<!-->",
    "<!",
    "<?p x?>",
    "<?>",
    "<![CDATA[x]]>",
    "<![CDATA",
    "]]>",
    "<!DOCTYPE a>",
    "&amp;",
    "&#65;",
    "&#0;",
    "&x;",
    "&",
    ";",
    "'",
    "\"",
    " ",
    "\r\n",
    "text",
    "é",
    "=",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4_000))]

    #[test]
    fn tags_and_text_are_told_apart_as_quick_xml_does(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..14),
    ) {
        // Within an element most is allowed, and more of it is read.
        for text in [pieces.concat(), format!("<a>{}</a>", pieces.concat())] {
            proptest::prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
        }
    }
}
