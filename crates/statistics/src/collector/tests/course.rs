//! Slots of a window add up to the window.

use super::*;
use crate::window::Window;

#[test]
fn slots_of_a_window_add_up_to_it() {
    let layout = layout("blue: a\ngreen: b", 100);
    let mut collector = Collector::new(Arc::clone(&layout), 7_300);
    let mut recorder = Recorder::new(layout);
    let mut now_ms = 7_300;
    let mut dice = Dice::new(11);
    for round in 0..900u64 {
        now_ms += dice.below(9_000);
        for _ in 0..dice.below(4) {
            recorder.request_began(0);
            let status = if dice.below(5) == 0 { 502 } else { 200 };
            recorder.request_ended(
                0,
                &RequestEnd { status, response_us: Some(1_000 + round), ..Default::default() },
            );
        }
        collector.absorb(&mut recorder, now_ms);
        for window in Window::ALL {
            let course = collector.course(window, now_ms);
            let summary = collector.summary(window, now_ms);
            let (name, points) = &course.groups[0];
            assert_eq!(&**name, "blue");
            let sum = |of: fn(&crate::CoursePoint) -> u64| points.iter().map(of).sum::<u64>();
            let counted = &summary.groups[0].window;
            assert_eq!(
                (sum(|one| one.ended), sum(|one| one.errors)),
                (counted.ended, counted.errors),
                "{window:?} {now_ms}"
            );
            assert!(points.is_sorted_by(|a, b| a.slot < b.slot));
            assert!(points.iter().all(|one| one.slot <= course.last && one.p50_us <= one.p99_us));
            assert_eq!(course.last, now_ms / course.slot_ms);
            assert!(course.first * course.slot_ms >= 7_300, "counted from its beginning");
            assert!(course.groups[1].1.is_empty());
        }
    }
}
