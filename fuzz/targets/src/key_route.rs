//! Keys and routes of switches, and their table: `switch`.
//!
//! Compares each with its own text, and a table with a search through all its keys. A line is a key and, behind a tab, its
//! route. The last line is the key that is looked up.

use bstr::{BStr, ByteSlice};
use switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Route, Table, normalise, point_of};

const MAX_LEN: usize = 255;

pub(crate) fn check(data: &[u8]) {
    for kind in [KeyKind::Host, KeyKind::Text] {
        let mut entries: Vec<(Key, Route)> = Vec::new();
        let lines: Vec<&[u8]> = data.lines().take(64).collect();
        for line in &lines {
            let (key, route) = line.split_once_str(b"\t").unwrap_or((line, b"blue"));
            let (Some(key), Some(route)) = (read_key(kind, key), read_route(route)) else { continue };
            entries.retain(|(known, _)| *known != key);
            entries.push((key, route));
        }
        let asked = lines.last().copied().unwrap_or_default();
        tables(kind, &entries, asked);
    }
}

fn read_key(kind: KeyKind, text: &[u8]) -> Option<Key> {
    match Key::parse(kind, text, MAX_LEN) {
        Ok(key) => {
            assert!(key.as_str().len() <= MAX_LEN && (kind == KeyKind::Text || !key.as_str().is_empty()));
            assert!(!key.as_str().contains(|c: char| c.is_ascii_control()));
            assert_eq!(Key::parse(kind, key.as_str().as_bytes(), MAX_LEN).as_ref(), Ok(&key), "its own text");
            if kind == KeyKind::Host {
                let mut room = Vec::new();
                let form = normalise(kind, text, &mut room).to_vec();
                assert_eq!(BStr::new(&form), BStr::new(key.as_str()));
                assert_eq!(BStr::new(normalise(kind, &form, &mut room)), BStr::new(&form));
            }
            Some(key)
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            None
        }
    }
}

fn read_route(text: &[u8]) -> Option<Route> {
    let text = text.to_str().ok()?;
    let route = match Route::parse(text) {
        Ok(route) => route,
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return None;
        }
    };
    assert_eq!(Route::parse(&route.to_string()).as_ref(), Ok(&route), "its own text");
    let live: Vec<&str> = route.live_targets().map(|target| &**target).collect();
    assert!(!live.is_empty() && route.targets().all(|target| Route::may_name(target)));
    for client in [&b""[..], b"a", b"203.0.113.7", text.as_bytes()] {
        let target = route.pick(point_of(client));
        assert!(live.contains(&&**target), "{target} of {route}");
    }
    if let Route::Split(split) = &route {
        // The order of the shares does not change who is in which.
        let mut words: Vec<String> =
            split.shares().iter().map(|share| format!("{}={}", share.target, share.weight)).collect();
        words.reverse();
        let turned = Route::parse(&words.join(" ")).unwrap();
        assert_eq!(turned, route);
        assert_eq!(turned.pick(point_of(b"x")), route.pick(point_of(b"x")));
    }
    Some(route)
}

fn tables(kind: KeyKind, entries: &[(Key, Route)], asked: &[u8]) {
    let table = Table::from_entries(3, entries.iter().map(|(key, route)| (key.clone(), route.clone(), 2)));
    assert_eq!((table.len(), table.revision()), (entries.len(), 3));
    let mut room = Vec::new();
    let questions = entries.iter().map(|(key, _)| key.as_str().as_bytes().to_vec());
    for text in questions.chain([asked.to_vec(), [b"www.", asked].concat()]) {
        let form = normalise(kind, &text, &mut room).to_vec();
        let best = entries
            .iter()
            .filter(|(key, _)| key.covers(&form))
            .reduce(|best, other| if other.0.precedes(&best.0) { other } else { best });
        let found = table.find(&form).map(|entry| (&entry.key, &entry.route));
        assert_eq!(found, best.map(|(key, route)| (key, route)), "{:?}", BStr::new(&form));
    }
    // A commit that removes every other entry.
    let changes: Vec<Change> = entries
        .iter()
        .step_by(2)
        .map(|(key, route)| Change {
            key: key.clone(),
            before: Some(route.clone()),
            after: None,
            undoes: None,
        })
        .collect();
    let mut commit = Commit {
        revision: 4,
        time_ms: 1,
        kind: CommitKind::Set,
        actor: String::from_utf8_lossy(asked).into_owned(),
        reason: None,
        idempotency: None,
        forced: false,
        confirm_by_ms: None,
        changes,
        subjects: Vec::new(),
        extra: Default::default(),
        gate: Vec::new(),
        previous: Hash([7; 32]),
        hash: Hash::ZERO,
    };
    commit.hash = commit.computed_hash();
    assert_eq!(commit.verify(Hash([7; 32])), Ok(()));
    let after = table.apply(&commit);
    assert_eq!((after.revision(), after.len()), (4, entries.len() / 2));
    for (at, (key, route)) in entries.iter().enumerate() {
        let expected = (at % 2 == 1).then_some(route);
        assert_eq!(after.get(key).map(|entry| &entry.route), expected);
        assert_eq!(table.get(key).map(|entry| &entry.route), Some(route), "the table before is as it was");
    }
    commit.actor.push('x');
    assert!(commit.verify(Hash([7; 32])).is_err(), "what is changed is seen");
    assert_eq!(commit.hash.to_string().parse(), Ok(commit.hash));
}
