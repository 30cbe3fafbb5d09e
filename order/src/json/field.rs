//! Types of members. The decoder gives every number as its text, so `123` and `"123"` decode alike and no
//! digit is lost.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use rust_decimal::Decimal;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::money::parse_amount;

/// Elements that all lists of one item may have together: 25 for each of 2,000 lines. The limit on lines is
/// seen once an order is decoded, and a million of `{}` would be hundreds of megabytes by then.
const ELEMENTS_MAX: usize = 50_000;

/// The fault of an item with more.
pub(super) const TOO_MANY: &str = "more than 50000 elements in the lists of one order; split it";

thread_local! {
    /// Elements of the item being decoded.
    static ELEMENTS: Cell<usize> = const { Cell::new(0) };
}

/// Before each item is decoded.
pub(super) fn start_counting() {
    ELEMENTS.set(0);
}

/// One more element of a list.
fn count<E: de::Error>() -> Result<(), E> {
    let elements = ELEMENTS.get() + 1;
    ELEMENTS.set(elements);
    if elements > ELEMENTS_MAX { Err(E::custom(TOO_MANY)) } else { Ok(()) }
}

/// Text, sent as a string or a number. A NUL in it (`\u0000`) stays; whoever stores it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    /// The text without blanks around it; `None` if nothing is left.
    pub(crate) fn given(&self) -> Option<&str> {
        Some(self.0.trim()).filter(|text| !text.is_empty())
    }
}

/// An amount or quantity, exact. An empty string decodes as [`Amount::NONE`], for some senders write
/// "not stated" that way; a thousands separator is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) Option<Decimal>);

/// `true` or `false`, or what some senders write for it: `"true"`, `"1"`, `"0"`, `""`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

/// A descriptive text (a name, part of an address): anything but a string or number is no text, for a
/// sale is not refused because a first name is `false`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label<'a>(pub(crate) Option<Cow<'a, str>>);

impl Label<'_> {
    /// The text, if any of it is not blank; as sent.
    pub(crate) fn given(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.trim().is_empty())
    }

    /// The same, owned.
    pub(crate) fn owned(&self) -> Option<String> {
        self.given().map(str::to_owned)
    }
}

/// A list of descriptive texts; anything else in its place is the empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels<'a>(pub(crate) Vec<Label<'a>>);

/// Whether a member is there at all, `null` included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present(pub(crate) bool);

/// An object, or nothing: `null`, absent, and the empty array that some senders write for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obj<T>(pub(crate) Option<T>);

impl<T> Default for Obj<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// A list of objects; `null`, absent and an empty object are the empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// A list of objects that decides nothing; another type in its place is the empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LooseList<T>(pub(crate) Vec<T>);

impl<T> Default for LooseList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for LooseList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

// === decoding ===

/// Reads what is written in all cases: hands strings to `text`, and refuses the rest without naming it.
struct Scalar<F, T> {
    wanted: &'static str,
    text: F,
    bool: fn(bool) -> Option<T>,
}

impl<'de, T, F> Visitor<'de> for Scalar<F, T>
where
    F: FnOnce(Cow<'de, str>) -> Result<T, Cow<'static, str>>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<T, E> {
        (self.text)(Cow::Borrowed(text)).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(Cow::Owned(text.to_owned())).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<T, E> {
        (self.bool)(flag).ok_or_else(|| E::custom(format_args!("expected {}", self.wanted)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |text| Ok(Self(text));
        deserializer.deserialize_any(Scalar { wanted: "a text or number", text, bool: |_| None })
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |text: Cow<'de, str>| match parse_amount(&text) {
            Ok(amount) => Ok(Self(Some(amount))),
            Err(_) if text.trim().is_empty() => Ok(Self(None)),
            Err(fault) => Err(fault.to_string().into()),
        };
        deserializer.deserialize_any(Scalar { wanted: "a decimal number", text, bool: |_| None })
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |text: Cow<'de, str>| match text.trim() {
            "true" | "1" | "yes" => Ok(Self(true)),
            "false" | "0" | "no" | "" => Ok(Self(false)),
            _ => Err("expected true or false".into()),
        };
        let bool = |flag| Some(Self(flag));
        deserializer.deserialize_any(Scalar { wanted: "true or false", text, bool })
    }
}

/// Takes any value.
struct Any<F, T>(F, PhantomData<T>);

impl<'de, T: Default, F: FnOnce(Cow<'de, str>) -> T> Visitor<'de> for Any<F, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T, E> {
        Ok((self.0)(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Label<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(|text| Self(Some(text)), PhantomData))
    }
}

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_unit<E>(self) -> Result<Labels<'de>, E> {
        Ok(Labels::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Labels<'de>, E> {
        Ok(Labels::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Labels<'de>, E> {
        Ok(Labels::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Labels<'de>, A::Error> {
        let mut labels = Vec::new();
        while let Some(label) = seq.next_element()? {
            count()?;
            labels.push(label);
        }
        Ok(Labels(labels))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Labels::default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

struct ObjVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjVisitor<T> {
    type Value = Obj<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Obj<T>, E> {
        Ok(Obj(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Obj<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| Obj(Some(object)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Obj<T>, A::Error> {
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(Obj(None)),
            Some(_) => Err(de::Error::custom("expected an object")),
        }
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Obj<T>, E> {
        self.visit_str(text)
    }

    /// Some senders write an empty string, or `false`, for "no object".
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Obj<T>, E> {
        if text.is_empty() { Ok(Obj(None)) } else { Err(E::custom("expected an object")) }
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Obj<T>, E> {
        if flag { Err(E::custom("expected an object")) } else { Ok(Obj(None)) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Obj<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjVisitor(PhantomData))
    }
}

struct ListVisitor<T> {
    loose: bool,
    items: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> ListVisitor<T> {
    fn other<E: de::Error>(&self) -> Result<Vec<T>, E> {
        if self.loose { Ok(Vec::new()) } else { Err(E::custom("expected a list")) }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0));
        while let Some(Obj(item)) = seq.next_element::<Obj<T>>()? {
            count()?;
            match item {
                Some(item) => items.push(item),
                None if self.loose => {}
                None => return Err(de::Error::custom("expected an object in the list")),
            }
        }
        Ok(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<T>, A::Error> {
        let mut members = 0usize;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            members += 1;
        }
        if members == 0 { Ok(Vec::new()) } else { self.other() }
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Vec<T>, E> {
        self.visit_str(text)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        if text.is_empty() { Ok(Vec::new()) } else { self.other() }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Vec<T>, E> {
        self.other()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ListVisitor { loose: false, items: PhantomData };
        deserializer.deserialize_any(visitor).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for LooseList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ListVisitor { loose: true, items: PhantomData };
        deserializer.deserialize_any(visitor).map(Self)
    }
}
