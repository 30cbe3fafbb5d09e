//! What the journal's index and the state keep of an order, made the same way by both: pure, and fixed on the disk.

use forebay_order::{Fingerprint, Money, OrderKey, Readiness};

use crate::Envelope;
use crate::record::Record;
use crate::rules;

/// Bits of a hash that are used; the rest of the `u128` is zero. Two keys of one store that share 96 keyed bits do not
/// happen (about 10^-9 for a billion live orders), and whoever cannot see the secret cannot make them.
const HASH_BITS: u32 = 96;

/// Money sums are exact to this many decimals; ISO 4217 has at most four.
pub(crate) const MONEY_SCALE: u32 = 4;

/// Makes the hashes keys are known by, in memory, in the journal's index and in the outcome index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHasher {
    key: [u8; 32],
}

impl KeyHasher {
    /// The store's secret keys the hashes, so that nobody outside can make two keys collide.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self { key: blake3::derive_key("forebay-buffer 1 order key hash", secret) }
    }

    /// The hash an order's key is known by.
    pub(crate) fn of_key(&self, key: &OrderKey) -> u128 {
        self.hash(key, None)
    }

    /// The hash a delivery is known by: of its key, or of its content where it occupies no key.
    pub(crate) fn of(&self, envelope: &Envelope) -> u128 {
        let content = (!rules::occupies_key(envelope.readiness)).then_some(envelope.fingerprint);
        self.hash(&envelope.key, content)
    }

    /// Keyed BLAKE3 over the parts, each with its length before it.
    fn hash(&self, key: &OrderKey, content: Option<Fingerprint>) -> u128 {
        let parts = [key.channel.as_bytes(), key.source.as_bytes(), key.id.as_bytes()];
        // Gathered first: for so few bytes an incremental hasher costs more to set up than to run.
        let len = parts.iter().map(|part| part.len() + 8).sum::<usize>() + 16;
        let mut text = Vec::with_capacity(len);
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part);
        }
        if let Some(content) = content {
            text.extend_from_slice(&content.0);
        }
        let hash = blake3::keyed_hash(&self.key, &text);
        let bytes = hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
        u128::from_le_bytes(bytes) & ((1 << HASH_BITS) - 1)
    }
}

/// An amount in ten-thousandths and its currency in eight bytes: the currency's three letters in the upper 15 bits, the
/// signed amount (28 billion each way) in the lower 49. Letters rather than a number in a list, which could not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedMoney(u64);

/// A currency as 15 bits: its three letters from 1 to 26.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CurrencyCode(u16);

const AMOUNT_BITS: u32 = 49;
const AMOUNT_MAX: i128 = (1 << (AMOUNT_BITS - 1)) - 1;

impl PackedMoney {
    /// No amount stated.
    pub(crate) const NONE: Self = Self(0);

    /// The money packed; `None` if the amount is too large for it.
    pub(crate) fn of(money: Option<Money>) -> Option<Self> {
        let Some(money) = money else { return Some(Self::NONE) };
        let units = units(money);
        if !(-AMOUNT_MAX..=AMOUNT_MAX).contains(&units) {
            return None;
        }
        let amount = i64::try_from(units).ok()?.cast_unsigned() & ((1 << AMOUNT_BITS) - 1);
        Some(Self(u64::from(CurrencyCode::of(money).0) << AMOUNT_BITS | amount))
    }

    /// Its currency and ten-thousandths; `None` if no amount was stated.
    pub(crate) fn parts(self) -> Option<(CurrencyCode, i64)> {
        let code = u16::try_from(self.0 >> AMOUNT_BITS).ok().filter(|code| *code != 0)?;
        let shift = 64 - AMOUNT_BITS;
        Some((CurrencyCode(code), (self.0 << shift).cast_signed() >> shift))
    }

    /// As it stands on the disk.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Takes back what [`PackedMoney::bits`] gave.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl CurrencyCode {
    /// The currency of an amount.
    pub(crate) fn of(money: Money) -> Self {
        let letters = money.currency.bytes().into_iter();
        Self(letters.fold(0, |code, letter| code << 5 | u16::from(letter & 0x1f)))
    }

    /// Its three capitals.
    pub(crate) fn text(self) -> String {
        [10, 5, 0].into_iter().map(|shift| char::from(b'@' + self.letter(shift))).collect()
    }

    fn letter(self, shift: u32) -> u8 {
        u8::try_from(self.0 >> shift & 0x1f).unwrap_or_default()
    }
}

/// The amount in ten-thousandths; what is finer is rounded away, the same each time.
pub(crate) fn units(money: Money) -> i128 {
    let rounded = money.amount.round_dp(MONEY_SCALE);
    let factor = 10_i128.pow(MONEY_SCALE.saturating_sub(rounded.scale()));
    rounded.mantissa().saturating_mul(factor)
}

/// All that the state needs of an order that simply waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// See [`KeyHasher::of`].
    pub(crate) hash: u128,
    /// Seconds since 1970.
    pub(crate) accepted_at_s: u32,
    pub(crate) money: PackedMoney,
}

impl Plain {
    /// For the record of a new order that is pending at once and whose amount fits; `None` for any other record, which
    /// must be read whole.
    pub(crate) fn of(record: &Record, hasher: &KeyHasher) -> Option<Self> {
        let Record::Accept(delivery) = record else { return None };
        let envelope = &delivery.envelope;
        if envelope.readiness != Readiness::Pending || envelope.not_before_ms.is_some() {
            return None;
        }
        Some(Self {
            hash: hasher.of(envelope),
            accepted_at_s: u32::try_from(delivery.accepted_at_ms.div_euclid(1_000)).ok()?,
            money: PackedMoney::of(envelope.total)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use forebay_order::Currency;
    use forebay_order::money::parse_amount;

    use super::*;

    fn money(amount: &str, currency: &str) -> Money {
        let currency: Currency = currency.parse().unwrap();
        Money { amount: parse_amount(amount).unwrap(), currency }
    }

    #[test]
    fn money_packs_and_unpacks() {
        for (amount, currency, expected) in [
            ("19.9", "EUR", 199_000),
            ("-15.84", "USD", -158_400),
            ("0", "JPY", 0),
            ("0.00004", "CLF", 0),
            ("28147497671.0655", "IDR", 281_474_976_710_655),
            ("-28147497671.0655", "ZWG", -281_474_976_710_655),
        ] {
            let packed = PackedMoney::of(Some(money(amount, currency))).unwrap();
            let (code, units) = PackedMoney::from_bits(packed.bits()).parts().unwrap();
            assert_eq!((code.text().as_str(), units), (currency, expected));
        }
        assert_eq!(PackedMoney::of(Some(money("28147497671.0656", "IDR"))), None);
        assert_eq!(PackedMoney::of(None).and_then(PackedMoney::parts), None);
    }

    #[test]
    fn hashes_depend_on_the_secret_and_keep_the_parts_apart() {
        let hasher = KeyHasher::new(b"secret");
        let hash = |a: &str, b: &str, c: &str| hasher.of_key(&OrderKey::new(a, b, c));
        assert_ne!(hash("a", "bc", "d"), hash("ab", "c", "d"));
        assert_ne!(hash("a", "b", "cd"), hash("a", "bc", "d"));
        assert_eq!(hash("a", "b", "c") >> HASH_BITS, 0);
        let key = OrderKey::new("a", "b", "c");
        assert_ne!(hasher.of_key(&key), KeyHasher::new(b"another").of_key(&key));
    }

    #[test]
    fn hashes_stay_what_they_are_on_disks() {
        let hasher = KeyHasher::new(b"secret");
        let key = OrderKey::new("forebay", "demo", "1001");
        assert_eq!(hasher.of_key(&key), 0x562d_3981_b5ce_1427_5216_07cd);
        assert_eq!(hasher.hash(&key, Some(Fingerprint([7; 16]))), 0xb984_9519_b78f_3d25_7da0_03cc);
    }
}
