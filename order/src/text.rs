//! Helpers for fields that several formats share: e-mail addresses and instants.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Longest name of a discount or tax, in characters.
const NAME_MAX: usize = 255;

/// A name that will be repeated on many lines (a discount's, a tax's), cut to 255 characters, so that one
/// long name times many lines cannot fill the memory.
pub(crate) fn short_name(name: &str) -> String {
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => name.get(..end).unwrap_or_default().to_owned(),
        None => name.to_owned(),
    }
}

/// An e-mail as the key of a shopper: blanks around it gone, small letters; `None` if nothing is left.
/// Nothing else is touched: what a mailbox means by dots or a plus sign is its own affair.
pub(crate) fn normalise_email(email: &str) -> Option<String> {
    let email = email.trim();
    if email.is_empty() { None } else { Some(email.to_lowercase()) }
}

/// The instant that a text with an offset or `Z` names, in milliseconds since 1970; `None` where it
/// names none. A zone is never guessed.
pub(crate) fn instant_ms(text: &str) -> Option<i64> {
    text.trim().parse::<Timestamp>().ok().map(|instant| instant.as_millisecond())
}

/// The same for a field that its format defines as UTC, whether or not the text says so.
pub(crate) fn utc_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let civil = || {
        let civil = text.parse::<DateTime>().ok()?;
        let instant = TimeZone::UTC.to_timestamp(civil).ok()?;
        Some(instant.as_millisecond())
    };
    // A time to the second leaves no room for an offset in so few characters; and a failure costs more than
    // all the rest.
    let bare =
        matches!(text.as_bytes(), [.., b'T', _, _, b':', _, _, b':', _, _] if text.len() == 19);
    let bare = if bare { civil() } else { None };
    bare.or_else(|| instant_ms(text)).or_else(civil)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_trimmed_and_in_small_letters() {
        assert_eq!(normalise_email("  Jo.Doe@Example.COM ").as_deref(), Some("jo.doe@example.com"));
        assert_eq!(normalise_email(" "), None);
        assert_eq!(normalise_email(""), None);
    }

    #[test]
    fn pitfall_41_a_long_name_is_cut_between_characters() {
        assert_eq!(short_name("Zoë"), "Zoë");
        assert_eq!(short_name(&"😀".repeat(300)), "😀".repeat(255));
    }

    #[test]
    fn an_instant_needs_an_offset() {
        assert_eq!(instant_ms("2008-01-10T11:00:00-05:00"), Some(1_199_980_800_000));
        assert_eq!(instant_ms("2016-05-17T04:14:36-00:00"), Some(1_463_458_476_000));
        assert_eq!(instant_ms("2018-04-03T23:05:14.5Z"), Some(1_522_796_714_500));
        assert_eq!(instant_ms("2018-04-03T23:05:14"), None);
        assert_eq!(instant_ms("2018-04-03"), None);
        assert_eq!(instant_ms("yesterday"), None);
    }

    #[test]
    fn pitfall_40_a_utc_field_without_zone_is_utc_and_a_local_one_stays_open() {
        assert_eq!(utc_ms("2018-04-03T23:05:14"), Some(1_522_796_714_000));
        assert_eq!(utc_ms("2018-04-03T23:05:14Z"), Some(1_522_796_714_000));
        assert_eq!(
            utc_ms("2018-04-03T23:05+01"),
            Some(1_522_793_100_000),
            "as long, with an offset"
        );
        assert_eq!(utc_ms(""), None);
    }
}
