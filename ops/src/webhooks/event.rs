//! What became of an order, as CloudEvents 1.0 in JSON.

use bytes::Bytes;
use forebay_buffer::{FeedEvent, FeedException};
use forebay_order::HoldReason;
use serde::Serialize;

/// One request's content. Sent again it is the same, and has the same id.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// Who says it: the store's name, which no other store has, and the `source` of its events.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) store: String,
    pub(super) source: String,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: String,
    datacontenttype: &'static str,
    data: Data<'a>,
}

/// Nothing personal: who the order is, what the OMS calls it, what stands in its way.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Order {
        channel: &'a str,
        source: &'a str,
        id: &'a str,
        number: &'a str,
        /// Sequence of its first acceptance.
        order: Option<u64>,
        synthetic: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        summary_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        existing: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exception: Option<&'a FeedException>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hold: Option<HoldReason>,
    },
    Ping {
        endpoint: &'a str,
    },
}

impl Origin {
    /// One event alone.
    pub(super) fn single(&self, event: &FeedEvent) -> Message {
        Message {
            id: format!("{}-{}", self.mark(), name(event)),
            content_type: "application/cloudevents+json",
            body: json(&self.cloud_event(event)),
        }
    }

    /// Several in one request. After a restart they may be parted otherwise, so the id names what is in it: the first and the last.
    pub(super) fn batch(&self, first: &FeedEvent, events: &[&FeedEvent]) -> Message {
        let last = events.last().copied().unwrap_or(first);
        let events: Vec<_> = events.iter().map(|event| self.cloud_event(event)).collect();
        Message {
            id: format!("{}-{}_{}", self.mark(), name(first), name(last)),
            content_type: "application/cloudevents-batch+json",
            body: json(&events),
        }
    }

    /// What says nothing of an order, to see whether it arrives.
    pub(super) fn ping(&self, endpoint: &str, at_ms: i64) -> Message {
        let event = CloudEvent {
            specversion: "1.0",
            id: format!("ping-{at_ms}"),
            source: &self.source,
            r#type: "forebay.ping".to_owned(),
            subject: None,
            time: time(at_ms),
            datacontenttype: "application/json",
            data: Data::Ping { endpoint },
        };
        Message {
            id: format!("{}-ping-{at_ms}", self.mark()),
            content_type: "application/cloudevents+json",
            body: json(&event),
        }
    }

    /// A `webhook-id` stands alone, without a source; so it begins with what tells one store from another.
    fn mark(&self) -> &str {
        self.store.get(..8).unwrap_or(&self.store)
    }

    fn cloud_event<'a>(&'a self, event: &'a FeedEvent) -> CloudEvent<'a> {
        let key = &event.key;
        CloudEvent {
            specversion: "1.0",
            id: name(event),
            source: &self.source,
            r#type: format!("forebay.order.{}", event.kind.word()),
            // A body without a usable id is no order.
            subject: (!key.id.is_empty()).then(|| key.identity()),
            time: time(event.at_ms),
            datacontenttype: "application/json",
            data: Data::Order {
                channel: &key.channel,
                source: &key.source,
                id: &key.id,
                number: &event.number,
                order: event.order,
                synthetic: event.synthetic,
                summary_id: event.summary_id.as_deref(),
                existing: event.existing,
                exception: event.exception.as_ref(),
                hold: event.hold,
            },
        }
    }
}

/// The event's name for ever.
fn name(event: &FeedEvent) -> String {
    format!("{}-{}", event.sequence, event.part)
}

/// RFC 3339 with milliseconds, in UTC; of a time out of range, the beginning of it all.
fn time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%FT%T%.3fZ").to_string()
}

fn json(value: &impl Serialize) -> Bytes {
    // Of strings and numbers; it cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
pub(super) mod tests {
    use forebay_buffer::{ExceptionCategory, FeedKind};
    use forebay_order::OrderKey;
    use serde_json::{Value, json};

    use super::*;

    pub(in super::super) fn event(kind: FeedKind, sequence: u64) -> FeedEvent {
        FeedEvent {
            sequence,
            part: 0,
            kind,
            key: OrderKey::new("shop", "de", "a/1".to_owned()),
            number: "#1".to_owned(),
            at_ms: 1_790_000_000_042,
            order: Some(3),
            summary_id: None,
            existing: None,
            exception: None,
            hold: None,
            synthetic: false,
        }
    }

    pub(in super::super) fn origin() -> Origin {
        Origin {
            store: "3f9c2a71-0000-8000-8000-000000000000".to_owned(),
            source: "urn:uuid:3f9c2a71-0000-8000-8000-000000000000".to_owned(),
        }
    }

    #[test]
    fn an_event_is_named_typed_and_dated_and_says_who_the_order_is() {
        let event = FeedEvent {
            summary_id: Some("1Os1".to_owned()),
            existing: Some(false),
            ..event(FeedKind::Summarised, 17)
        };
        let message = origin().single(&event);
        assert_eq!(message.id, "3f9c2a71-17-0");
        assert_eq!(message.content_type, "application/cloudevents+json");
        let said: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(
            said,
            json!({
                "specversion": "1.0", "id": "17-0", "source": "urn:uuid:3f9c2a71-0000-8000-8000-000000000000",
                "type": "forebay.order.summarised", "subject": "shop:de:a%2F1", "time": "2026-09-21T14:13:20.042Z",
                "datacontenttype": "application/json",
                "data": { "channel": "shop", "source": "de", "id": "a/1", "number": "#1", "order": 3, "synthetic": false,
                    "summary_id": "1Os1", "existing": false }
            })
        );
        assert_eq!(origin().single(&event), message, "a repeat is the same");
    }

    #[test]
    fn a_batch_is_a_list_and_its_id_says_what_is_in_it() {
        let mut raised = event(FeedKind::Exception, 18);
        raised.key = OrderKey::new("shop", "de", String::new());
        raised.order = None;
        raised.exception = Some(FeedException {
            id: 18,
            category: ExceptionCategory::Unreadable,
            reason: "no JSON".to_owned(),
        });
        let first = event(FeedKind::Accepted, 17);
        let message = origin().batch(&first, &[&first, &raised]);
        assert_eq!(message.id, "3f9c2a71-17-0_18-0");
        assert_eq!(message.content_type, "application/cloudevents-batch+json");
        let said: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(said[0]["type"], "forebay.order.accepted");
        assert_eq!(said[1]["subject"], Value::Null, "a body without an id is no order");
        assert_eq!(
            said[1]["data"]["exception"],
            json!({ "id": 18, "category": "unreadable", "reason": "no JSON" })
        );
        let alone = origin().batch(&first, &[&first]);
        assert!(alone.body.starts_with(b"["), "one is a list, too");
    }
}
