//! Behaviour that ngx_lua documents, and that nginx 1.22.1 with ngx_lua 0.10.23 shows.

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

fn zone(size_bytes: usize) -> DictZone {
    DictZone::new(b"birds", size_bytes, 42)
}

fn text(zone: &DictZone, key: &str, now_ms: u64) -> Option<String> {
    let see = |value: Value<'_>, _| match value {
        Value::String(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
    };
    zone.get(key.as_bytes(), false, now_ms, see).unwrap()
}

fn set(zone: &DictZone, key: &str, value: &str, ttl_ms: u64) -> Stored<()> {
    zone.store(Op::Set, key.as_bytes(), Value::String(value.as_bytes()), ttl_ms, 0, NOW_MS)
}

fn keys(zone: &DictZone, max: u32, now_ms: u64) -> Vec<String> {
    let mut all = Vec::new();
    zone.keys(max, now_ms, |key| all.push(String::from_utf8_lossy(key).into_owned()));
    all
}

#[test]
fn values_of_each_type_come_back() {
    let zone = zone(102400);
    for value in [Value::String(b""), Value::String(b"a\0b"), Value::Number(-1.5), Value::Boolean(true)] {
        zone.store(Op::Set, b"k", value, 0, 7, NOW_MS).result.unwrap();
        let same = zone.get(b"k", false, NOW_MS, |found, about| found == value && about.flags == 7);
        assert_eq!(same, Ok(Some(true)));
    }
    zone.delete(b"k", NOW_MS);
    assert_eq!(text(&zone, "k", NOW_MS), None);
}

#[test]
fn add_replace_and_incr_refuse_as_documented() {
    let zone = zone(102400);
    let string = Value::String(b"v");
    assert_eq!(zone.store(Op::Replace, b"k", string, 0, 0, NOW_MS).result, Err(DictError::NotFound));
    assert_eq!(zone.store(Op::Add, b"k", string, 0, 0, NOW_MS).result, Ok(()));
    assert_eq!(zone.store(Op::Add, b"k", string, 0, 0, NOW_MS).result, Err(DictError::Exists));
    assert_eq!(zone.store(Op::SafeAdd, b"k", string, 0, 0, NOW_MS).result, Err(DictError::Exists));
    assert_eq!(zone.incr(b"k", 1.0, None, 0, NOW_MS).result, Err(DictError::NotANumber));
    assert_eq!(zone.incr(b"n", 1.0, None, 0, NOW_MS).result, Err(DictError::NotFound));
    assert_eq!(zone.incr(b"n", 1.0, Some(10.0), 0, NOW_MS).result, Ok(11.0));
    assert_eq!(zone.incr(b"n", -2.5, None, 0, NOW_MS).result, Ok(8.5));
}

#[test]
fn entries_expire_and_stale_ones_can_be_read() {
    let zone = zone(102400);
    set(&zone, "first", "never", 0);
    set(&zone, "k", "v", 100);
    set(&zone, "last", "never", 0);
    assert_eq!(text(&zone, "k", NOW_MS + 100).as_deref(), Some("v"));
    assert_eq!(text(&zone, "k", NOW_MS + 101), None);
    let stale = zone.get(b"k", true, NOW_MS + 101, |_, about| about.stale);
    assert_eq!(stale, Ok(Some(true)));
    assert_eq!(zone.ttl_ms(b"k", NOW_MS + 30), Some(70));
    assert_eq!(zone.ttl_ms(b"k", NOW_MS + 130), Some(-30));
    assert_eq!(zone.ttl_ms(b"first", NOW_MS), Some(0));
    assert_eq!(zone.ttl_ms(b"missing", NOW_MS), None);
    assert!(zone.expire(b"k", 1000, NOW_MS + 130));
    assert!(!zone.expire(b"missing", 1000, NOW_MS));
    assert_eq!(text(&zone, "k", NOW_MS + 1000).as_deref(), Some("v"));
}

#[test]
fn init_ttl_counts_only_when_the_key_is_made() {
    let zone = zone(102400);
    zone.incr(b"n", 1.0, Some(0.0), 100, NOW_MS);
    zone.incr(b"n", 1.0, Some(0.0), 100, NOW_MS + 60);
    assert_eq!(zone.ttl_ms(b"n", NOW_MS + 60), Some(40));
    assert_eq!(zone.incr(b"n", 1.0, Some(5.0), 0, NOW_MS + 101).result, Ok(6.0));
    assert_eq!(zone.ttl_ms(b"n", NOW_MS + 101), Some(0));
}

#[test]
fn keys_come_least_recently_used_first() {
    let zone = zone(102400);
    for key in ["a", "b", "c", "d"] {
        set(&zone, key, "v", 0);
    }
    text(&zone, "b", NOW_MS);
    assert_eq!(keys(&zone, 0, NOW_MS), ["a", "c", "d", "b"]);
    assert_eq!(keys(&zone, 2, NOW_MS), ["a", "c"]);
}

#[test]
fn flush_all_leaves_the_rest_for_get_stale() {
    let zone = zone(102400);
    for key in ["a", "b", "c", "d", "e"] {
        set(&zone, key, "v", 0);
    }
    zone.flush_all(NOW_MS);
    assert!(keys(&zone, 0, NOW_MS).is_empty());
    assert_eq!(zone.get(b"e", true, NOW_MS, |_, about| about.stale), Ok(Some(true)));
    assert_eq!(zone.flush_expired(1, NOW_MS), 1);
    assert_eq!(zone.flush_expired(0, NOW_MS), 1);
    assert_eq!(zone.flush_expired(0, NOW_MS), 0);
}

#[test]
fn lists_push_and_pop_at_both_ends() {
    let zone = zone(102400);
    for (number, end) in [(2.0, ListEnd::Left), (1.0, ListEnd::Left), (3.0, ListEnd::Right)] {
        zone.push(end, b"l", Value::Number(number), NOW_MS).unwrap();
    }
    assert_eq!(zone.push(ListEnd::Right, b"l", Value::String(b"four"), NOW_MS), Ok(4));
    assert_eq!(zone.llen(b"l", NOW_MS), Ok(4));
    assert_eq!(zone.get(b"l", false, NOW_MS, |_, _| ()), Err(DictError::IsAList));
    assert_eq!(zone.incr(b"l", 1.0, None, 0, NOW_MS).result, Err(DictError::NotANumber));
    let mut popped = Vec::new();
    for end in [ListEnd::Left, ListEnd::Right, ListEnd::Left, ListEnd::Right, ListEnd::Left] {
        popped.push(zone.pop(end, b"l", NOW_MS, |value| format!("{value:?}")).unwrap());
    }
    let expected = [
        Some("Number(1.0)"),
        Some("String([102, 111, 117, 114])"),
        Some("Number(2.0)"),
        Some("Number(3.0)"),
        None,
    ];
    assert_eq!(popped.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    assert!(keys(&zone, 0, NOW_MS).is_empty());
    set(&zone, "s", "v", 0);
    assert_eq!(zone.push(ListEnd::Left, b"s", Value::Number(1.0), NOW_MS), Err(DictError::NotAList));
    assert_eq!(zone.llen(b"s", NOW_MS), Err(DictError::NotAList));
    assert_eq!(zone.pop(ListEnd::Left, b"s", NOW_MS, |_| ()), Err(DictError::NotAList));
}

#[test]
fn a_list_is_replaced_by_set_and_its_space_comes_back() {
    let zone = zone(102400);
    let before = zone.free_bytes();
    for _ in 0..100 {
        zone.push(ListEnd::Right, b"l", Value::String(&[b'x'; 300]), NOW_MS).unwrap();
    }
    set(&zone, "l", "v", 0);
    zone.delete(b"l", NOW_MS);
    assert_eq!(zone.free_bytes(), before);
}

#[test]
fn an_expired_list_starts_anew() {
    let zone = zone(102400);
    set(&zone, "old", "keeps the list from the old end", 0);
    zone.push(ListEnd::Right, b"l", Value::Number(1.0), NOW_MS).unwrap();
    zone.expire(b"l", 10, NOW_MS);
    assert_eq!(zone.llen(b"l", NOW_MS + 20), Ok(0));
    assert_eq!(zone.push(ListEnd::Right, b"l", Value::Number(2.0), NOW_MS + 20), Ok(1));
    assert_eq!(zone.ttl_ms(b"l", NOW_MS + 20), Some(0));
}

#[test]
fn safe_set_never_evicts_and_set_does() {
    let zone = zone(102400);
    let value = [b'x'; 4000];
    let mut stored = 0;
    while zone
        .store(Op::SafeSet, format!("k{stored}").as_bytes(), Value::String(&value), 0, 0, NOW_MS)
        .result
        .is_ok()
    {
        stored += 1;
    }
    let full = zone.store(Op::SafeSet, b"more", Value::String(&value), 0, 0, NOW_MS);
    assert_eq!(full, Stored { result: Err(DictError::NoMemory), forcible: false });
    assert_eq!(keys(&zone, 0, NOW_MS).len(), stored);
    let forced = zone.store(Op::Set, b"more", Value::String(&value), 0, 0, NOW_MS);
    assert_eq!(forced, Stored { result: Ok(()), forcible: true });
    assert_eq!(text(&zone, "k0", NOW_MS), None);
    assert!(text(&zone, "k1", NOW_MS).is_some());
    let huge = vec![b'x'; 102400];
    let never = zone.store(Op::Set, b"huge", Value::String(&huge), 0, 0, NOW_MS);
    assert_eq!(never, Stored { result: Err(DictError::NoMemory), forcible: true });
}

/// The same calls were run on nginx 1.22.1 with ngx_lua 0.10.23; every number below is what it printed.
#[test]
fn a_busy_zone_evicts_and_accounts_like_the_reference() {
    let zone = zone(102400);
    let state = || (zone.free_bytes(), keys(&zone, 0, NOW_MS).len());
    assert_eq!(zone.free_bytes(), 90112);
    let mut first_forced = 0;
    for i in 1..=2000 {
        if set(&zone, &format!("k{i}"), &"x".repeat(i % 300), 0).forcible {
            first_forced = i;
            break;
        }
    }
    assert_eq!((first_forced, state()), (289, (0, 258)));
    for i in 1..=500 {
        set(&zone, &format!("k{i}"), &"y".repeat((i * 7) % 3000), 0);
    }
    assert_eq!(state(), (0, 84));
    for i in 1..=100usize {
        let _ = zone.push(
            ListEnd::Right,
            format!("l{}", i % 7).as_bytes(),
            Value::String(&vec![b'z'; i]),
            NOW_MS,
        );
    }
    assert_eq!(state(), (0, 91));
    for i in (1..=500).step_by(3) {
        zone.delete(format!("k{i}").as_bytes(), NOW_MS);
    }
    assert_eq!(state(), (16384, 63));
    zone.flush_all(NOW_MS);
    assert_eq!(state(), (28672, 0));
    assert_eq!(zone.flush_expired(0, NOW_MS), 60);
    assert_eq!(zone.free_bytes(), 90112);
}

#[test]
fn a_zone_too_small_for_its_own_records_gets_room_for_them() {
    for size_bytes in [8192, 12288] {
        let smallest = DictZone::new(b"a", size_bytes, 1);
        assert_eq!(smallest.free_bytes(), 0);
        assert_eq!(smallest.capacity_bytes(), size_bytes);
        assert_eq!(set(&smallest, "k", "v", 0).result, Ok(()));
        assert_eq!(text(&smallest, "k", NOW_MS).as_deref(), Some("v"));
    }
}

#[test]
fn many_keys_are_found_again() {
    let zone = zone(4 << 20);
    for i in 0..10_000 {
        set(&zone, &format!("a key of some length {i}"), &i.to_string(), 0);
    }
    for i in (0..10_000).step_by(2) {
        zone.delete(format!("a key of some length {i}").as_bytes(), NOW_MS);
    }
    for i in 0..10_000 {
        let expected = (i % 2 == 1).then(|| i.to_string());
        assert_eq!(text(&zone, &format!("a key of some length {i}"), NOW_MS), expected);
    }
}

#[test]
fn threads_share_one_zone() {
    let zone = zone(102400);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    zone.incr(b"n", 1.0, Some(0.0), 0, NOW_MS).result.unwrap();
                }
            });
        }
    });
    assert_eq!(text(&zone, "n", NOW_MS).as_deref(), Some("4000"));
}
