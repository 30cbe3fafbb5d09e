//! Making orders durable: so many 2 KB orders in flight at once, to the last receipt, on this machine's disk.
#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_buffer::{Buffer, Embedded, EmbeddedConfig, SystemClock};

fn append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig::new(directory.path().join("buffer"));
    let fail = Box::new(|reason| panic!("the buffer failed: {reason}"));
    let buffer = Embedded::open(config, Arc::new(SystemClock), fail).expect("the buffer opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let body = Bytes::from(vec![b'x'; 2_048]);
    let mut next = 0;
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20);
    for in_flight in [1, 16, 256] {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(in_flight.to_string(), |bencher| {
            bencher.iter(|| {
                let first = next;
                next += in_flight;
                runtime.block_on(all(&buffer, &body, first..next));
            });
        });
    }
    group.finish();
    runtime.block_on(buffer.close());
}

/// Appends a range of orders at once and waits for every receipt.
async fn all(buffer: &Embedded, body: &Bytes, orders: std::ops::Range<u64>) {
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = orders
        .map(|n| {
            let (buffer, envelope) = (buffer.clone(), forebay_benches::envelope(body, n));
            local.spawn_local(async move {
                let permit = buffer.admission().admit(envelope.body.len()).expect("room");
                buffer.append(envelope, permit).await.expect("a receipt")
            })
        })
        .collect();
    local
        .run_until(async {
            for task in tasks {
                task.await.expect("the append ends");
            }
        })
        .await;
}

criterion_group!(benches, append);
criterion_main!(benches);
