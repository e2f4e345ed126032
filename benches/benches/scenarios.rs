//! Every scenario in time, per unit: `cargo bench -p paloma-bench --bench scenarios -- codec/` for one crate's.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use paloma_bench::scenarios;

criterion_group!(benches, time_all);
criterion_main!(benches);

fn time_all(criterion: &mut Criterion) {
    for scenario in scenarios::all() {
        let mut group = criterion.benchmark_group(scenario.name);
        group.throughput(Throughput::Elements(scenario.units));
        group.bench_function("time", |bencher| {
            // Here, so that a scenario which the command line filters out is not prepared.
            let mut work = (scenario.prepare)();
            bencher.iter(&mut work);
        });
        group.finish();
    }
}
