//! What only a faulty mapping can show.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{Buffer, Envelope, ExceptionCategory, Memory, OrderState, SystemClock};
use forebay_order::{Fingerprint, Format, OrderKey, OrderSummary, Unmappable};

use crate::oms::sqlite::{Sqlite, SqliteOptions};
use crate::{Drain, DrainConfig};

fn panics_on_bad(
    format: Format,
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    if key.id.starts_with("bad") {
        // As a panic, without the noise of its hook.
        std::panic::resume_unwind(Box::new("a fault of the mapping"));
    }
    forebay_order::summarise(format, key, fingerprint, bytes)
}

async fn append(buffer: &Memory, id: &str) {
    let body = format!(
        "<order order-no=\"{id}\"><currency>EUR</currency><product-lineitems><product-lineitem>\
         <net-price>1.00</net-price><product-id>S</product-id><quantity unit=\"\">1</quantity>\
         </product-lineitem></product-lineitems></order>"
    );
    let permit = buffer.admission().admit(body.len()).unwrap();
    let key = OrderKey::new("c", "s", id);
    let envelope = Envelope {
        format: Format::B2cCommerceXml as u8,
        ..Envelope::new(key, Fingerprint([1; 16]), Bytes::from(body))
    };
    buffer.append(envelope, permit).await.unwrap();
}

#[tokio::test]
async fn an_order_whose_mapping_panics_is_poison_and_its_neighbours_pass() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let path = directory.path().join("oms.sqlite");
    let oms = Sqlite::open(&path, SqliteOptions::default(), clock.clone()).unwrap();
    let buffer = Memory::new(1_000, 1 << 20, clock.clone());
    for n in 0..60 {
        append(&buffer, &if n % 10 == 4 { format!("bad{n}") } else { n.to_string() }).await;
    }
    let config = DrainConfig::default();
    let drain =
        Drain::start_with(config, buffer.clone(), Arc::new(oms), clock, panics_on_bad).unwrap();
    let settled = async {
        loop {
            let status = buffer.status().await.unwrap();
            let of = |state| status.ended.get(state).copied().unwrap_or_default();
            if of(OrderState::Summarised.word()) == 54
                && status.exceptions.get("poison") == Some(&6)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap();
    drain.stop(Duration::from_secs(30)).await;
    for row in buffer.exceptions(0, 100).await.unwrap() {
        assert!(row.key.id.starts_with("bad") && row.category == ExceptionCategory::Poison);
        assert!(!row.reason.contains("a fault of the mapping"), "a panic's text may hold a value");
    }
}
