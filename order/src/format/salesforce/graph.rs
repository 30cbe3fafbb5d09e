//! A graph as it is sent: nodes, of which only the fields that count are kept.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::json::{List, Obj, Text};

/// One order: its nodes and the caller's name for it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Graph<'a> {
    #[serde(borrow, rename = "orderSummaryGraphId")]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, rename = "purchaseSupportDetails")]
    support: List<Node<'a>>,
    #[serde(borrow, rename = "purchaseDetails")]
    details: List<Node<'a>>,
}

impl<'a> Graph<'a> {
    /// All nodes, support first, in the order of the document.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.support.iter().chain(self.details.iter())
    }
}

/// A record to create.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Node<'a> {
    #[serde(borrow, rename = "referenceId")]
    reference: Option<Text<'a>>,
    #[serde(borrow)]
    attributes: Obj<Attributes<'a>>,
}

impl Node<'_> {
    /// What others call it.
    pub(super) fn reference(&self) -> Option<&str> {
        self.reference.as_ref()?.given()
    }

    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        self.attributes.0.as_ref().map_or(Kind::Other, |attributes| attributes.kind)
    }

    /// The field of that name; `None` if it is missing or blank.
    pub(super) fn get(&self, name: Field) -> Option<&str> {
        let fields = &self.attributes.0.as_ref()?.fields;
        fields.iter().find(|(found, _)| *found == name)?.1.given()
    }

    /// Whether it is a line, and of products rather than a charge.
    pub(super) fn is_product_line(&self) -> bool {
        let charge = |text: &str| matches!(text, "Delivery Charge" | "Fee");
        self.kind() == Kind::OrderItemSummary && !self.get(Field::Type).is_some_and(charge)
    }
}

/// A node's fields. As many as were sent, so that ten thousand empty nodes cost nothing.
struct Attributes<'a> {
    kind: Kind,
    fields: Vec<(Field, Text<'a>)>,
}

/// The inner `attributes`, which say what a node is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner {
    r#type: Option<Kind>,
}

macro_rules! names {
    ($(#[$doc:meta])* $enum:ident: $($name:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $enum {
            $($name,)*
            Other,
        }

        impl $enum {
            fn of(text: &str) -> Self {
                match text {
                    $(stringify!($name) => Self::$name,)*
                    _ => Self::Other,
                }
            }
        }

        impl<'de> Deserialize<'de> for $enum {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Text::deserialize(deserializer).map(|text| Self::of(text.0.trim()))
            }
        }
    };
}

names! {
    /// Record types that count.
    Kind:
    OrderSummary OrderItemSummary OrderItemTaxLineItemSummary OrderItemAdjustmentLineSummary
    OrderAdjustmentGroupSummary OrderDeliveryGroupSummary OrderDeliveryMethod OrderPaymentSummary
    PaymentAuthorization Payment Account Contact Product2 CardPaymentMethod DigitalWallet
    AlternativePaymentMethod
}

names! {
    /// Fields that count.
    Field:
    AccountId Amount BillToContactId BillingCity BillingCountry BillingEmailAddress
    BillingPhoneNumber BillingPostalCode BillingState BillingStreet CardType CurrencyIsoCode
    DeliverToCity DeliverToCountry DeliverToName DeliverToPostalCode DeliverToState DeliverToStreet
    Description Email ExternalReferenceIdentifier FirstName GatewayRefNumber GrandTotalAmount LastName
    Name OrderAdjustmentGroupSummaryId OrderDeliveryGroupSummaryId OrderDeliveryMethodId
    OrderItemAdjustmentLineSummaryId OrderItemSummaryId OrderLifeCycleType OrderNumber
    OrderPaymentSummaryId OrderedDate PaymentMethodId PersonEmail Phone PhoneNumber Product2Id
    ProductCode Quantity Rate StockKeepingUnit TaxLocaleType TotalDeliveryAmount TotalLineAmount
    TotalTaxAmount Type UnitPrice
}

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the fields of a node")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut kind = None;
                let mut fields: Vec<(Field, Text<'de>)> = Vec::new();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    if name == "attributes" {
                        let inner = map.next_value::<Obj<Inner>>()?.0.unwrap_or_default();
                        if kind.replace(inner.r#type.unwrap_or(Kind::Other)).is_some() {
                            return Err(A::Error::duplicate_field("attributes"));
                        }
                        continue;
                    }
                    let known = Field::of(&name);
                    if known == Field::Other {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value::<Option<Text<'de>>>()?;
                    if fields.iter().any(|(found, _)| *found == known) {
                        return Err(A::Error::custom("a field is there twice; send it once"));
                    }
                    // A field without a value holds its place, so that it is not there twice either.
                    fields.push((known, value.unwrap_or(Text("".into()))));
                }
                Ok(Attributes { kind: kind.unwrap_or(Kind::Other), fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
