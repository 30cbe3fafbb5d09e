//! What a request says its body is.

use forebay_order::Format;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::problem::Problem;

/// How the body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
    Xml,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Nothing was said. The channel knows its format, so the body is read as that.
    Unsaid,
    /// Something no channel reads, or another character set than UTF-8.
    Other,
}

/// The one content coding of a request: none or gzip. Stacked and unknown codings are refused.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let coding = match values.next() {
        None => Some(Coding::Identity),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"identity") => Some(Coding::Identity),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"gzip") => Some(Coding::Gzip),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"x-gzip") => Some(Coding::Gzip),
        Some(_) => None,
    };
    coding.filter(|_| values.next().is_none()).ok_or_else(Problem::unknown_coding)
}

impl Media {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = values.next() else { return Self::Unsaid };
        match value.to_str() {
            Ok(text) if values.next().is_none() => Self::parse(text),
            _ => Self::Other,
        }
    }

    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let utf8 = |part: &str| match part.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                let value = value.trim_matches('"');
                value.eq_ignore_ascii_case("utf-8")
                    || value.eq_ignore_ascii_case("utf8")
                    || value.eq_ignore_ascii_case("us-ascii")
            }
            _ => true,
        };
        if !parts.all(utf8) {
            return Self::Other;
        }
        match essence.as_str() {
            "" => Self::Unsaid,
            "application/json" | "text/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Self::Ndjson,
            "application/xml" | "text/xml" => Self::Xml,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            other if other.starts_with("application/") && other.ends_with("+xml") => Self::Xml,
            _ => Self::Other,
        }
    }

    /// Whether a channel of this format reads it.
    pub(crate) fn fits(self, format: Format) -> bool {
        match self {
            Self::Unsaid => true,
            Self::Xml => format == Format::B2cCommerceXml,
            Self::Json | Self::Ndjson => format != Format::B2cCommerceXml,
            Self::Form | Self::Other => false,
        }
    }
}

/// WooCommerce's activation ping: a form of exactly `webhook_id=N`.
pub(crate) fn is_ping(format: Format, media: Media, body: &[u8]) -> bool {
    let number = body.strip_prefix(b"webhook_id=").unwrap_or_default();
    format == Format::WooCommerce
        && media == Media::Form
        && (1..=20).contains(&number.len())
        && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn content_types_are_read_with_their_character_set() {
        for (text, media) in [
            ("application/json", Media::Json),
            ("Application/JSON; charset=UTF-8", Media::Json),
            ("application/json; charset=\"utf-8\"", Media::Json),
            ("application/json; charset=latin1", Media::Other),
            ("application/cloudevents+json", Media::Json),
            ("application/x-ndjson", Media::Ndjson),
            ("text/xml", Media::Xml),
            ("application/x-www-form-urlencoded", Media::Form),
            ("text/plain", Media::Other),
        ] {
            assert_eq!(Media::parse(text), media, "{text}");
        }
        assert_eq!(Media::of(&HeaderMap::new()), Media::Unsaid);
    }

    #[test]
    fn only_one_gzip_is_unpacked() {
        let coding_of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            coding(&headers).ok()
        };
        assert_eq!(coding_of(&[]), Some(Coding::Identity));
        assert_eq!(coding_of(&["identity"]), Some(Coding::Identity));
        assert_eq!(coding_of(&["GZIP"]), Some(Coding::Gzip));
        for stacked in
            [&["gzip, gzip"][..], &["gzip", "gzip"], &["br"], &["zstd"], &["deflate"], &[""]]
        {
            assert_eq!(coding_of(stacked), None, "{stacked:?}");
        }
    }

    #[test]
    fn a_ping_is_exactly_a_ping() {
        let woo = Format::WooCommerce;
        assert!(is_ping(woo, Media::Form, b"webhook_id=12"));
        for body in [&b"webhook_id="[..], b"webhook_id=1&x=2", b"webhook_id=a", b"id=1"] {
            assert!(!is_ping(woo, Media::Form, body));
        }
        assert!(!is_ping(woo, Media::Json, b"webhook_id=12"));
        assert!(!is_ping(Format::Shopify, Media::Form, b"webhook_id=12"));
    }
}
