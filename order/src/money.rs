//! Money: a decimal and its ISO 4217 currency, never a float.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

/// An ISO 4217 currency by its three capitals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

/// An exact amount in one currency. Amounts of different currencies never mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// The amount in major units (euros, not cents), with the digits the sender gave.
    pub amount: Decimal,
    /// Its currency.
    pub currency: Currency,
}

/// Why a text is no amount or no currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not digits with an optional sign, point and exponent (a thousands separator, say).
    #[error("not a decimal number; send digits with a point, no thousands separators")]
    NotADecimal,
    /// More than 28 significant digits.
    #[error("more than 28 significant digits")]
    TooLong,
    /// Not an active ISO 4217 code.
    #[error("not an ISO 4217 currency code of three capitals")]
    UnknownCurrency,
}

/// Reads an amount exactly, from a JSON number's text, a JSON string or XML text.
///
/// Accepts an optional sign, digits, a point and a decimal exponent (`1e2`); refuses thousands
/// separators, blanks inside, and more than 28 significant digits. Never goes through a float.
pub fn parse_amount(text: &str) -> Result<Decimal, MoneyError> {
    if let Some(amount) = short_amount(text.as_bytes()) {
        return Ok(amount);
    }
    let text = text.trim();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let allowed = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    if digits == 0 || text.len() > 64 || !text.bytes().all(allowed) {
        return Err(MoneyError::NotADecimal);
    }
    let parsed = if text.bytes().any(|b| matches!(b, b'e' | b'E')) {
        Decimal::from_scientific(text)
    } else {
        Decimal::from_str_exact(text)
    };
    let fault = if digits > 28 { MoneyError::TooLong } else { MoneyError::NotADecimal };
    let amount = parsed.map_err(|_| fault)?;
    if amount.abs() >= AMOUNT_MAX { Err(MoneyError::TooLong) } else { Ok(amount) }
}

/// What nearly every amount is: at most 18 digits, perhaps with a sign before and a point among them.
/// `None` for anything else, right or wrong.
fn short_amount(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let ends_in_digits = digits.first()?.is_ascii_digit() && digits.last()?.is_ascii_digit();
    if !ends_in_digits || digits.len() > 18 {
        return None;
    }
    let (mut value, mut point) = (0i64, None);
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    if negative && value == 0 {
        return None;
    }
    let scale = point.map_or(0, |at| digits.len() - 1 - at);
    Decimal::try_new(if negative { -value } else { value }, u32::try_from(scale).ok()?).ok()
}

/// Amounts stay below this (10^24), so that the sum of every line an order may have cannot overflow.
pub(crate) const AMOUNT_MAX: Decimal =
    Decimal::from_parts(0xa100_0000, 0x1bce_cced, 0xd3c2, false, 0);

/// Currencies whose exponent is not 2, from ISO 4217 list one.
const EXPONENTS: &[(&[u8; 3], u32)] = &[
    (b"BHD", 3),
    (b"BIF", 0),
    (b"CLF", 4),
    (b"CLP", 0),
    (b"DJF", 0),
    (b"GNF", 0),
    (b"IQD", 3),
    (b"ISK", 0),
    (b"JOD", 3),
    (b"JPY", 0),
    (b"KMF", 0),
    (b"KRW", 0),
    (b"KWD", 3),
    (b"LYD", 3),
    (b"OMR", 3),
    (b"PYG", 0),
    (b"RWF", 0),
    (b"TND", 3),
    (b"UGX", 0),
    (b"UYI", 0),
    (b"UYW", 4),
    (b"VND", 0),
    (b"VUV", 0),
    (b"XAF", 0),
    (b"XOF", 0),
    (b"XPF", 0),
];

/// The active codes of ISO 4217 list one that are money (funds codes, metals and test codes left out).
const CODES: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD \
CAD CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD \
HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD \
MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON \
RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX \
USD UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

impl Currency {
    /// How many decimals the currency's minor unit has: 2 for most, 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u32 {
        EXPONENTS.iter().find(|(code, _)| **code == self.0).map_or(2, |(_, exponent)| *exponent)
    }

    /// The three capitals.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// The three capitals as bytes, for the disk.
    pub fn bytes(self) -> [u8; 3] {
        self.0
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| MoneyError::UnknownCurrency)?;
        let known = code.iter().all(u8::is_ascii_uppercase)
            && CODES.as_bytes().chunks(4).any(|known| known.starts_with(&code));
        if known { Ok(Self(code)) } else { Err(MoneyError::UnknownCurrency) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_every_digit() {
        let exact = |text: &str| parse_amount(text).map(|d| d.to_string());
        assert_eq!(exact("10.00").as_deref(), Ok("10.00"));
        assert_eq!(exact("1234567890123456789.0123").as_deref(), Ok("1234567890123456789.0123"));
        assert_eq!(exact("1e2").as_deref(), Ok("100"));
        assert_eq!(exact("-15.84").as_deref(), Ok("-15.84"));
        assert_eq!(exact("4.81").as_deref(), Ok("4.81"));
    }

    #[test]
    fn short_amounts_are_read_as_long_ones_are() {
        for text in [
            "0",
            "-0",
            "0.00",
            "-0.00",
            "00.10",
            "10.00",
            "-15.84",
            "1.",
            ".5",
            "-.5",
            "-",
            "1.2.3",
            "999999999999999999",
            "9999999999999999.9",
            "1234567890123456789",
            "0.0000000000000001",
            "+1",
            "1e2",
            "- 1",
            "1-",
        ] {
            let short = short_amount(text.as_bytes());
            let long = Decimal::from_str_exact(text).ok();
            if let Some(short) = short {
                let long = long.unwrap();
                assert_eq!(
                    (short.serialize(), short.to_string()),
                    (long.serialize(), long.to_string())
                );
            }
            let plain = |text: &str| text.len() < 18 && text.bytes().all(|b| b.is_ascii_digit());
            assert!(short.is_some() || !plain(text), "{text}");
        }
    }

    #[test]
    fn thousands_separators_and_long_numbers_are_refused() {
        for text in ["1,000.00", "", " ", "1 000", "abc", "0x10", "NaN", "-", "1e"] {
            assert_eq!(parse_amount(text), Err(MoneyError::NotADecimal), "{text:?}");
        }
        assert_eq!(parse_amount("123456789012345678901234567890.1"), Err(MoneyError::TooLong));
    }

    #[test]
    fn exponents_follow_the_currency() {
        let exponent = |code: &str| code.parse::<Currency>().map(Currency::exponent);
        assert_eq!(exponent("USD"), Ok(2));
        assert_eq!(exponent("JPY"), Ok(0));
        assert_eq!(exponent("KWD"), Ok(3));
        assert_eq!(exponent("usd"), Err(MoneyError::UnknownCurrency));
        assert_eq!(exponent("XXX"), Err(MoneyError::UnknownCurrency));
    }
}
