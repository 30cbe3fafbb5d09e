//! What a request's headers say about a delivery.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SYNTHETIC: HeaderName = HeaderName::from_static("forebay-synthetic");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest `Idempotency-Key` that is echoed.
const ECHO_MAX: usize = 255;

/// The marks of one request that every order in it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Sent by a load test or demo.
    pub(crate) synthetic: bool,
    /// W3C trace context: version, trace id, parent id, flags.
    pub(crate) traceparent: Option<[u8; 26]>,
}

impl Marks {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let synthetic =
            headers.get(SYNTHETIC).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"));
        let traceparent = headers.get(TRACEPARENT).and_then(|v| traceparent(v.as_bytes()));
        Self { synthetic, traceparent }
    }
}

/// The sender's key to send back; it never decides anything.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(IDEMPOTENCY_KEY).filter(|value| value.len() <= ECHO_MAX).cloned()
}

/// `version-traceid-parentid-flags` in lower-case hex; anything else is no trace context, and no fault.
fn traceparent(text: &[u8]) -> Option<[u8; 26]> {
    let (fixed, rest) = text.split_at_checked(55)?;
    let mut fields = fixed.split(|b| *b == b'-');
    let mut binary = [0u8; 26];
    let mut at = 0;
    for len in [1usize, 16, 8, 1] {
        let field = fields.next().filter(|field| field.len() == len * 2)?;
        for (byte, pair) in binary.get_mut(at..at + len)?.iter_mut().zip(field.chunks(2)) {
            *byte = pair.iter().try_fold(0u8, |acc, digit| Some(acc << 4 | hex(*digit)?))?;
        }
        at += len;
    }
    let [version, ids @ .., _flags] = &binary;
    let (trace_id, parent_id) = ids.split_at_checked(16)?;
    let later = rest.first() == Some(&b'-') && *version != 0;
    let known = *version != 0xff && (rest.is_empty() || later);
    let whole = [trace_id, parent_id].iter().all(|id| id.iter().any(|b| *b != 0));
    (known && whole && fields.next().is_none()).then_some(binary)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_context_is_binary_and_a_bad_one_is_none() {
        let binary = traceparent(GOOD.as_bytes()).unwrap();
        assert_eq!(
            (binary[0], binary[1], binary[16], binary[17], binary[25]),
            (0, 0x0a, 0x9c, 0xb7, 1)
        );
        assert!(traceparent(GOOD.replacen("00", "01", 1).as_bytes()).is_some());
        assert!(traceparent(format!("{}-more", GOOD.replacen("00", "01", 1)).as_bytes()).is_some());
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-more"),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace('-', "_"),
            GOOD[..54].to_owned(),
            "é".repeat(40),
        ];
        for text in bad {
            assert_eq!(traceparent(text.as_bytes()), None, "{text}");
        }
    }
}
