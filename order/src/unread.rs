//! Card data in bytes that no format can read, and that are kept all the same.

use bytes::Bytes;

use crate::{MaskedSpan, mask};

/// The most bytes (quotes, blanks, `:`, `=`, `>`) between a verification field's name and its value.
const GAP_MAX: usize = 16;

/// Masks card numbers anywhere in `body`, and three or four digits behind a card verification field's name.
///
/// Since nothing says which text is which, an identifier that looks exactly like a card number is masked
/// too: bytes nobody can read are for a person to look at, and card data must not be kept. A number among them becomes `*`
/// as well, for what is no JSON cannot stay JSON.
pub fn mask_unread(body: Bytes) -> (Bytes, Vec<MaskedSpan>) {
    let mut spans = Vec::new();
    mask::card_numbers(&body, 0, &mut spans);
    let mut at = 0;
    while let Some((start, end)) = next_word(&body, at) {
        at = end;
        if mask::is_verification_name(body.get(start..end).unwrap_or_default()) {
            let gap = body.get(end..).unwrap_or_default().iter().take(GAP_MAX);
            let value = end + gap.take_while(|byte| parts_name_and_value(**byte)).count();
            if let Some((from, to)) = next_word(&body, value).filter(|(from, _)| *from == value) {
                mask::verification_value(body.get(from..to).unwrap_or_default(), from, &mut spans);
            }
        }
    }
    spans.sort_unstable_by_key(|span| span.start);
    (mask::apply(body, &spans), spans)
}

fn parts_name_and_value(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'\\' | b':' | b'=' | b'>')
}

/// The next run of letters, digits, `_` and `-`.
fn next_word(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let rest = bytes.get(from..)?;
    let start = from + rest.iter().position(inside)?;
    let len = bytes.get(start..)?.iter().take_while(|byte| inside(byte)).count();
    Some((start, start + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let (body, spans) = mask_unread(Bytes::copy_from_slice(text.as_bytes()));
        let stars = body.iter().filter(|byte| **byte == b'*').count();
        assert_eq!(spans.iter().map(|span| span.len as usize).sum::<usize>(), stars);
        assert_eq!(body.len(), text.len());
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn card_data_goes_and_the_rest_stays() {
        assert_eq!(masked(r#"{"n":"4111 1111 1111 1111""#), r#"{"n":"**** **** **** ****""#);
        assert_eq!(
            masked(r#"{"n":4111111111111111,"cvv":123,"#),
            r#"{"n":****************,"cvv":***,"#
        );
        assert_eq!(masked(r#"{"cvv": "123", "x":"#), r#"{"cvv": "***", "x":"#);
        assert_eq!(masked("<order><cvc>1234</cvc>"), "<order><cvc>****</cvc>");
        assert_eq!(masked("a=1&security_code=999&b=2"), "a=1&security_code=***&b=2");
        for kept in [
            r#"{"id":820982911946154508,"phone":"4111111""#,
            r#"{"cvv":"12345","cvv_response":"123"#,
            "cvv",
            "",
            "<cvv>",
        ] {
            assert_eq!(masked(kept), kept);
        }
    }
}
