//! A store with a damaged file: `control::store::FileStore`.
//!
//! Compares the loaded state with the committed one: damage is refused, or has no effect. The first byte chooses the file
//! that is damaged (closed, or left open with a log), or that the rest is a file of its own; then follow changes of five
//! and more bytes each, see [`damage`].

use control::store::FileStore;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use switch::{
    Action, Commit, Filter, Hash, Key, KeyKind, Loaded, Meta, Order, Pending, Route, Rules, Store, Table,
    verify_chain,
};

const KIND: KeyKind = KeyKind::Host;
const PAGE: usize = 4096;

type Content = BTreeMap<String, (String, u64)>;

/// An undamaged file with its log, and its contents at each revision.
struct Sound {
    file: Vec<u8>,
    log: Vec<u8>,
    anchor: Vec<u8>,
    history: Vec<Commit>,
    /// By revision, 0 included.
    tables: Vec<(Content, Hash, Vec<Pending>)>,
}

/// Stores after a clean end, and after a crash.
static SOUND: LazyLock<[Sound; 2]> = LazyLock::new(|| [made(false), made(true)]);

pub(crate) fn content(table: &Table) -> Content {
    table.iter().map(|(key, entry)| (key.to_string(), (entry.route.to_string(), entry.revision))).collect()
}

fn rules() -> Rules {
    let targets: Vec<Arc<str>> = ["blue", "green", "red"].map(Arc::from).to_vec();
    Rules {
        name: "live".into(),
        default: targets[0].clone(),
        targets: targets.into(),
        kind: KIND,
        max_keys: 1000,
        max_key_len: 255,
        groups: Box::default(),
        run_time: Default::default(),
    }
}

pub(crate) fn order(at: usize) -> Order {
    let key = |text: String| Key::parse(KIND, text.as_bytes(), 255).unwrap();
    let route = ["green", "red", "green=10 blue=90"][at % 3];
    let changes = vec![
        (key(format!("shop-{at}.example")), Some(Route::parse(route).unwrap())),
        (key(format!("*.{}.example", at % 4)), (at % 5 != 4).then(|| Route::parse("red").unwrap())),
    ];
    let meta = Meta {
        actor: "somebody".into(),
        reason: Some("why".into()),
        idempotency: Some(format!("i{at}")),
        confirm_within_ms: (at % 6 == 5).then_some(60_000),
        force: true,
        ..Meta::default()
    };
    Order { action: Action::Set(changes), meta }
}

pub(crate) fn next(loaded: &Loaded, order: &Order) -> Option<Commit> {
    let plan = switch::plan(&loaded.table, &rules(), order, &loaded.pending).ok()?;
    Some(plan.commit(loaded.last_hash, 1_000 + loaded.table.revision(), vec!["a note".into()]))
}

pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

fn made(with_log: bool) -> Sound {
    let folder = folder();
    let path = folder.path().join("live.db");
    let mut store = FileStore::open(&path, KIND).expect("a new store");
    let mut loaded = store.load().expect("what was just made");
    let mut tables = vec![(content(&loaded.table), loaded.last_hash, Vec::new())];
    for at in 0..12 {
        let Some(commit) = next(&loaded, &order(at)) else { continue };
        store.commit(&commit).expect("the next commit");
        store.keep_receipt_of(&commit);
        loaded.table = loaded.table.apply(&commit);
        loaded.last_hash = commit.hash;
        Pending::follow(&mut loaded.pending, &commit);
        tables.push((content(&loaded.table), loaded.last_hash, loaded.pending.clone()));
    }
    let history = store.since(0).expect("its history");
    if !with_log {
        drop(store);
    }
    let read = |ending: &str| fs::read(folder.path().join(format!("live.db{ending}"))).unwrap_or_default();
    Sound { file: read(""), log: read("-wal"), anchor: read("-anchor"), history, tables }
}

/// A receipt, so that every table has a row.
trait KeepReceipt {
    fn keep_receipt_of(&mut self, commit: &Commit);
}

impl KeepReceipt for FileStore {
    fn keep_receipt_of(&mut self, commit: &Commit) {
        control::store::StoreBackend::save_receipt(
            self,
            commit.revision,
            format!("{{\"revision\":{}}}", commit.revision),
        );
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some((choice, changes)) = data.split_first() else { return };
    let folder = folder();
    let path = folder.path().join("live.db");
    let sound = &SOUND[usize::from(*choice) % 2];
    if *choice >= 0xf0 {
        fs::write(&path, changes).unwrap();
        examine(&path, None);
        return;
    }
    let (mut file, mut log) = (sound.file.clone(), sound.log.clone());
    let rows = damage(changes, &mut file, &mut log);
    fs::write(path.with_file_name("live.db-anchor"), &sound.anchor).unwrap();
    fs::write(&path, &file).unwrap();
    if !log.is_empty() {
        fs::write(folder.path().join("live.db-wal"), &log).unwrap();
    }
    for row in rows {
        change_row(&path, row);
    }
    examine(&path, Some(sound));
}

/// Applies changes from the bytes: the kind (one byte), the place (three), a length (one), and that many bytes.
pub(crate) fn damage<'a>(mut rest: &'a [u8], file: &mut Vec<u8>, log: &mut Vec<u8>) -> Vec<&'a [u8]> {
    let mut rows = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let [what, a, b, c, len] = *head;
        let (bytes, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        let text = if what & 1 == 0 { &mut *file } else { &mut *log };
        if text.is_empty() {
            continue;
        }
        let at = u32::from_le_bytes([a, b, c, 0]) as usize % text.len();
        match what >> 1 & 7 {
            0 | 1 => text.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new),
            2 => text.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old ^= *new),
            3 => text.truncate(at),
            4 => text.iter_mut().skip(at / PAGE * PAGE).take(PAGE).for_each(|byte| *byte = 0),
            5 => {
                let from = usize::from(len) * PAGE % text.len();
                let page: Vec<u8> = text.iter().skip(from).take(PAGE).copied().collect();
                let to = at / PAGE * PAGE;
                text.iter_mut().skip(to).zip(page).for_each(|(old, new)| *old = new);
            }
            6 => text.extend_from_slice(bytes),
            _ => rows.push(bytes),
        }
    }
    rows
}

const TABLES: [(&str, &[&str]); 8] = [
    ("head", &["key_kind", "revision", "hash", "keys", "digest", "opened_ms"]),
    ("entries", &["key", "route", "revision"]),
    (
        "commits",
        &[
            "revision",
            "time_ms",
            "kind",
            "about",
            "actor",
            "reason",
            "idempotency",
            "forced",
            "confirm_by_ms",
            "gate",
            "previous",
            "hash",
        ],
    ),
    ("changes", &["revision", "place", "key", "before", "after", "undoes"]),
    ("idempotency", &["name", "revision"]),
    ("pending", &["revision", "confirm_by_ms"]),
    ("receipts", &["revision", "receipt"]),
    ("unchanged", &["name", "digest", "revision", "time_ms"]),
];

/// Changes one row by SQL, as could be done with a shell: table, column, row, kind of value, value. The column after the
/// last deletes the row.
fn change_row(path: &Path, order: &[u8]) {
    let [table, column, row, sort, value @ ..] = order else { return };
    let (table, columns) = TABLES[usize::from(*table) % TABLES.len()];
    let Ok(connection) = Connection::open(path) else { return };
    let text = String::from_utf8_lossy(value).into_owned();
    let value = match sort % 5 {
        0 => Value::Null,
        1 => Value::Integer(value.iter().take(8).fold(0, |sum, byte| sum << 8 | i64::from(*byte))),
        2 => Value::Text(text),
        3 => Value::Blob(value.to_vec()),
        _ => Value::Text(["blue", "green", "host", "text", "set", "undo", "[]"][value.len() % 7].to_owned()),
    };
    let first = columns[0];
    let which = format!("{first} = (SELECT {first} FROM {table} ORDER BY 1 LIMIT 1 OFFSET {})", row % 32);
    // Changes that the table does not allow have no effect.
    let _ = match columns.get(usize::from(*column) % (columns.len() + 1)) {
        Some(column) => {
            connection.execute(&format!("UPDATE OR IGNORE {table} SET {column} = ?1 WHERE {which}"), [value])
        }
        None => connection.execute(&format!("DELETE FROM {table} WHERE {which}"), []),
    };
}

/// Opens the store, and if it opens, reads everything.
fn examine(path: &Path, sound: Option<&Sound>) {
    let mut store = match FileStore::open(path, KIND) {
        Ok(store) => store,
        Err(fault) => {
            assert!(!fault.text.is_empty() && !fault.remedy.is_empty());
            return;
        }
    };
    let Ok(loaded) = store.load() else { return };
    let history = store.since(0);
    let Some(sound) = sound else { return };
    let revision = loaded.table.revision();
    let (table, hash, pending) =
        sound.tables.get(usize::try_from(revision).unwrap()).expect("a revision that was committed");
    if control::store::StoreBackend::key_kind(&store) != KIND {
        // A store opened for hosts refuses it.
        return;
    }
    assert_eq!(&content(&loaded.table), table, "the table of revision {revision}");
    assert_eq!(loaded.last_hash, *hash);
    assert_eq!(&loaded.pending, pending, "what is to be confirmed");
    if let Ok(history) = history {
        assert!(verify_chain(&history).is_ok());
        assert_eq!(history, sound.history[..revision as usize]);
    }
    let _ = store.history(&Filter { limit: 5, ..Filter::default() });
    if let Ok(Some(commit)) = store.commit_by_idempotency("i3") {
        assert_eq!(commit.idempotency.as_deref(), Some("i3"), "the commit of that name");
    }
    for key in ["shop-3.example", "*.1.example", "*.2.example"] {
        let key = Key::parse(KIND, key.as_bytes(), 255).unwrap();
        let expected = sound.history[..revision as usize].iter().rev().flat_map(|commit| {
            let changes = commit.changes.iter().filter(|change| change.key == key);
            changes.map(|change| (commit.revision, change.clone()))
        });
        if let Ok(changes) = store.changes_of(&key, None, 100) {
            assert_eq!(changes, expected.collect::<Vec<_>>(), "the changes of {key}");
        }
    }
    // It goes on from there, or fails.
    let Some(commit) = next(&loaded, &order(40)) else { return };
    let expected = content(&loaded.table.apply(&commit));
    if store.commit(&commit).is_err() {
        return;
    }
    drop(store);
    let mut again = FileStore::open(path, KIND).expect("what was committed to can be opened");
    let loaded = again.load().expect("what was committed can be read");
    assert_eq!((loaded.table.revision(), content(&loaded.table)), (revision + 1, expected));
}
