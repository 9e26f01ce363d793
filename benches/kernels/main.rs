//! Kernels one at a time, on one core: how long each takes, and how near that comes to what this machine can do.
//!
//! `cargo bench --bench kernels` first measures the machine ([`peaks`]), then the cases ([`cases`]), each of which is
//! checked before it is timed ([`ready`]), and prints a table in the end. `cargo bench --bench kernels -- softmax` takes
//! those with that in their names. What criterion calls Gelem/s is GFLOP/s.

mod cases;
mod peaks;
mod ready;

use cases::{CASES, Case, Work};
use criterion::{Criterion, SamplingMode, Throughput};
use peaks::Peaks;
use ready::Ready;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let peaks = Peaks::measure();
    println!("{peaks}\n");
    let rows: Vec<String> =
        CASES.iter().filter_map(|case| Some(row(case, &measure(&mut criterion, case)?, &peaks))).collect();
    criterion.final_summary();
    println!("{peaks}\n");
    println!("| kernel | median | rate | of the peak | fastest | of the peak |\n|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
}

/// Times of single runs.
struct Times {
    median: Duration,
    fastest: Duration,
}

/// Of all runs, those of criterion's warming up included; `None` where the case was not asked for. Where others use the
/// machine, many single runs are not interrupted, but all of criterion's samples of many runs are.
fn measure(criterion: &mut Criterion, case: &Case) -> Option<Times> {
    let mut group = criterion.benchmark_group("kernels");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5));
    group.throughput(match case.work {
        Work::Operations(n) => Throughput::Elements(n),
        Work::Reads(bytes) | Work::Copies(bytes) => Throughput::Bytes(bytes),
    });
    let mut times: Vec<Duration> = Vec::new();
    let mut ready = None;
    group.bench_function(case.name, |b| {
        // Only here is it known that the case is wanted.
        let ready = ready.get_or_insert_with(|| Ready::checked(case.name, case.shape, case.rest, case.exact));
        b.iter_custom(|n| {
            let before = times.len();
            times.extend((0..n).map(|_| {
                let start = Instant::now();
                black_box(&mut *ready).run();
                start.elapsed()
            }));
            times[before..].iter().sum()
        });
    });
    group.finish();
    times.sort();
    Some(Times { median: *times.get(times.len() / 2)?, fastest: *times.first()? })
}

/// A line of the table. Rates are in units of 10^9 a second.
fn row(case: &Case, times: &Times, peaks: &Peaks) -> String {
    let (work, unit, peak) = match case.work {
        Work::Operations(n) => (n, "GFLOP/s", peaks.operations),
        Work::Reads(bytes) => (bytes, "GB/s", peaks.reads),
        Work::Copies(bytes) => (bytes, "GB/s", peaks.copies),
    };
    let rate = |time: Duration| work as f64 / time.as_nanos() as f64;
    let percent = |time: Duration| rate(time) / peak * 100.0;
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    let Times { median, fastest } = *times;
    format!(
        "| {} | {:.1} us | {:.1} {unit} | {:.0} % | {:.1} us | {:.0} % |",
        case.name,
        us(median),
        rate(median),
        percent(median),
        us(fastest),
        percent(fastest),
    )
}
