//! What the drain does with one order's bytes: the order summary with its totals.
#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_order::{Format, OrderKey};

fn summary(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("summary");
    for format in Format::ALL {
        let item = forebay_benches::read(format, &forebay_benches::order(format));
        let key = OrderKey::new(format.name(), "demo", item.id.clone().unwrap_or_default());
        group.throughput(Throughput::Elements(1));
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| {
                forebay_order::summarise(format, key.clone(), item.fingerprint, &item.bytes)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, summary);
criterion_main!(benches);
