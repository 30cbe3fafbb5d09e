//! Texts within a query: `'...'` as SOQL and OData have them, `"..."` as commercetools has them.

use http::Uri;

/// How a quote within a text is written.
pub(super) enum Escape {
    /// `\'`
    Backslash,
    /// `''`
    Doubled,
}

/// A parameter of a query, decoded.
pub(super) fn parameter(uri: &Uri, wanted: &str) -> Result<Option<String>, String> {
    let query: Vec<(String, String)> = serde_urlencoded::from_str(uri.query().unwrap_or_default())
        .map_err(|error| error.to_string())?;
    Ok(query.into_iter().find_map(|(name, value)| (name == wanted).then_some(value)))
}

/// The texts that a field is to be one of, by OData's `$filter`: `field eq 'one' or field eq 'other'`.
pub(super) fn filtered(uri: &Uri, field: &str) -> Result<Vec<String>, String> {
    let filter = parameter(uri, "$filter")?.ok_or("no $filter")?;
    let (around, wanted) = texts(&filter, '\'', &Escape::Doubled)?;
    let asks = format!("{field} eq ?");
    match around.split(" or ").all(|part| part == asks) {
        true => Ok(wanted),
        false => Err(format!("this filter is not answered here: {around}")),
    }
}

/// A query with each text in it as `?`, and the texts.
pub(super) fn texts(
    query: &str,
    quote: char,
    escape: &Escape,
) -> Result<(String, Vec<String>), String> {
    let (mut around, mut texts) = (String::new(), Vec::new());
    let mut chars = query.chars().peekable();
    while let Some(char) = chars.next() {
        if char != quote {
            around.push(char);
            continue;
        }
        let mut text = String::new();
        loop {
            let char = chars.next().ok_or("a text does not end")?;
            match escape {
                Escape::Backslash if char == '\\' => {
                    text.push(chars.next().ok_or("a text ends in its escape")?);
                }
                Escape::Doubled if char == quote && chars.peek() == Some(&quote) => {
                    chars.next();
                    text.push(quote);
                }
                _ if char == quote => break,
                _ => text.push(char),
            }
        }
        around.push('?');
        texts.push(text);
    }
    Ok((around, texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_with_their_escapes() {
        let read = |query, quote, escape| texts(query, quote, &escape).unwrap();
        assert_eq!(
            read(r"x IN ('a', 'b\'c\\')", '\'', Escape::Backslash),
            ("x IN (?, ?)".to_owned(), vec!["a".to_owned(), r"b'c\".to_owned()])
        );
        assert_eq!(
            read("x eq 'it''s' or x eq ''", '\'', Escape::Doubled),
            ("x eq ? or x eq ?".to_owned(), vec!["it's".to_owned(), String::new()])
        );
        for no in ["x = 'a", r"x = 'a\'"] {
            assert!(texts(no, '\'', &Escape::Backslash).is_err(), "{no}");
        }
    }
}
