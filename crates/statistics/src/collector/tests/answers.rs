//! Answers that are counted for receipts.

use super::*;

/// A recorder with requests of one key: revision, whether it is a stream, whether it failed.
fn routed(recorder: &mut Recorder, key: &str, target: &str, all: &[(u64, bool, bool)]) {
    for &(revision, is_stream, failed) in all {
        let routed =
            RoutedRequest { revision, is_stream, failed, ..RoutedRequest::new(key.as_bytes(), target) };
        let end = RequestEnd { status: 200, response_us: Some(1_000), ..RequestEnd::default() };
        recorder.key_ended(0, &routed, &end);
    }
}

#[test]
fn answers_of_a_watched_switch_are_counted_by_revision_and_streams_apart() {
    let layout = layout(LAYOUTS[0], 100);
    let (live, target) = (Arc::clone(&layout.switches[0]), layout.groups[0].name.to_string());
    let mut collector = Collector::new(Arc::clone(&layout), 0);
    let mut recorder = Recorder::new(layout);
    routed(&mut recorder, "a", &target, &[(7, false, true)]);
    collector.absorb(&mut recorder, 1_000);
    assert!(collector.answers(&live).is_none(), "it is not watched");
    collector.watch_answers(&live, Some(7));
    let all = [(6, false, true), (7, false, false), (7, false, true), (7, true, true), (8, false, false)];
    routed(&mut recorder, "a", &target, &all);
    collector.absorb(&mut recorder, 1_500);
    let counted = |collector: &Collector| {
        let mut all: Vec<_> = collector
            .answers(&live)
            .unwrap()
            .iter()
            .map(|one| {
                let Answers { requests, failed, streams, failed_streams, times } = one.answers;
                assert_eq!((one.key, &**one.target, times.count()), (Some(&b"a"[..]), &*target, *requests));
                (one.revision, *requests, *failed, *streams, *failed_streams)
            })
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(counted(&collector), [(7, 2, 1, 1, 1), (8, 1, 0, 0, 0)]);
    let version = collector.answers(&live).unwrap().version();
    routed(&mut recorder, "a", &target, &[(7, false, false)]);
    collector.absorb(&mut recorder, 1_600);
    assert!(collector.answers(&live).unwrap().version() > version);
    collector.watch_answers(&live, Some(8));
    assert_eq!(counted(&collector), [(8, 1, 0, 0, 0)], "older ones are let go");
    let recent = collector.recent(&live, Window::Minute, 2_000, |key| key == b"a");
    assert_eq!(recent.iter().map(|(name, one)| (&**name, one.ended)).collect::<Vec<_>>(), [(&*target, 7)]);
    assert!(collector.recent(&live, Window::Minute, 2_000, |key| key == b"b").is_empty());
    collector.watch_answers(&live, None);
    assert!(collector.answers(&live).is_none());
}

#[test]
fn too_many_answered_keys_are_counted_together_and_then_said_to_be_lost() {
    let layout = layout(LAYOUTS[0], 100_000);
    let (live, target) = (Arc::clone(&layout.switches[0]), layout.groups[0].name.to_string());
    let mut collector = Collector::new(Arc::clone(&layout), 0);
    let mut recorder = Recorder::new(layout);
    collector.watch_answers(&live, Some(1));
    for key in 0..crate::answers::MAX_NAMED + 10 {
        routed(&mut recorder, &key.to_string(), &target, &[(1, false, false)]);
    }
    collector.absorb(&mut recorder, 1_000);
    let answers = collector.answers(&live).unwrap();
    let others: Vec<_> = answers.iter().filter(|one| one.key.is_none()).collect();
    assert_eq!((others.len(), others[0].answers.requests, answers.has_lost()), (1, 10, false));
    for revision in 2..crate::answers::MAX_NAMED as u64 + 10 {
        routed(&mut recorder, "a", &target, &[(revision, false, false)]);
    }
    collector.absorb(&mut recorder, 2_000);
    let answers = collector.answers(&live).unwrap();
    assert!(answers.has_lost() && answers.iter().count() <= 2 * crate::answers::MAX_NAMED);
}
