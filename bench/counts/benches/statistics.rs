//! Instructions of recording one duration, and all that is recorded of one request; `cargo xtask counts` runs and
//! compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros make items that have neither documentation nor users"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use statistics::{GroupLayout, Histogram, Layout, Recorder, RequestEnd, RoutedRequest, TryEnd};
use std::hint::black_box;
use std::sync::Arc;

/// Returns one that has seen durations like those to come.
fn warm_histogram(duration_us: u64) -> (Histogram, u64) {
    let mut histogram = Histogram::new();
    histogram.record(duration_us);
    (histogram, duration_us)
}

#[library_benchmark]
#[bench::short(args = (40), setup = warm_histogram)]
#[bench::long(args = (123_456), setup = warm_histogram)]
fn record_duration((mut histogram, duration_us): (Histogram, u64)) -> Histogram {
    histogram.record(black_box(duration_us));
    histogram
}

/// Returns one that has seen a request.
fn warm_recorder() -> Box<Recorder> {
    let peers = ["10.0.0.1:80", "10.0.0.2:80"].map(Arc::from).to_vec();
    let layout = Layout {
        groups: vec![GroupLayout { name: Arc::from("blue"), peers }],
        switches: vec![Arc::from("live")],
        max_keys: 100,
    };
    let mut recorder = Recorder::new(Arc::new(layout));
    record(&mut recorder);
    Box::new(recorder)
}

fn record(recorder: &mut Recorder) {
    let sent = black_box(400);
    recorder.request_began(black_box(0));
    recorder.try_began(0, black_box(1));
    let end = TryEnd {
        status: 200,
        first_byte_us: Some(black_box(700)),
        response_us: Some(black_box(750)),
        sent,
        ..TryEnd::default()
    };
    recorder.try_ended(0, 1, &end);
    let end = RequestEnd { status: 200, response_us: Some(black_box(750)), received: 12_345, sent };
    recorder.request_ended(0, &end);
    let routed = RoutedRequest {
        revision: black_box(17),
        ..RoutedRequest::new(black_box(b"shop.example.com"), "blue")
    };
    recorder.key_ended(0, &routed, &end);
}

#[library_benchmark]
#[bench::switched(setup = warm_recorder)]
fn record_request(mut recorder: Box<Recorder>) -> Box<Recorder> {
    record(&mut recorder);
    recorder
}

library_benchmark_group!(name = records, benchmarks = [record_duration, record_request]);
main!(library_benchmark_groups = records);
