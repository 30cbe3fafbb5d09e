//! What the door does with one order's bytes: lexical pass, typed decode, readiness, fingerprint, masking.
#![allow(missing_docs, reason = "criterion's macros write undocumented items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_order::{Format, ReadOptions};

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for format in Format::ALL {
        let body = forebay_benches::order(format);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format.name(), |bencher| {
            bencher.iter(|| forebay_order::read(format, &body, &ReadOptions::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
