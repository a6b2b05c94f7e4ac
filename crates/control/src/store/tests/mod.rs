//! The store with real files: what it keeps, and how it refuses what it cannot trust.

mod cost;
mod damage;
mod disk;
mod formats;
mod kinds;
mod objects;
mod restore;
mod unchanged;

use super::*;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use switch::{
    Action, Chain, Commit, Filter, Hash, Key, Loaded, Meta, Order, Pending, Route, Rules, StoreFaultKind,
    Table,
};

const KIND: KeyKind = KeyKind::Host;

fn rules() -> Rules {
    let targets: Vec<Arc<str>> = ["blue", "green", "red"].map(Arc::from).to_vec();
    Rules {
        name: "live".into(),
        default: targets[0].clone(),
        targets: targets.into(),
        kind: KIND,
        max_keys: 1_000_000,
        max_key_len: 255,
        groups: Box::default(),
        run_time: Default::default(),
    }
}

fn key(text: &str) -> Key {
    Key::parse(KIND, text.as_bytes(), 255).unwrap()
}

/// A writer that knows where it is.
struct Writer {
    store: SqliteStore,
    table: Table,
    hash: Hash,
    pending: Vec<Pending>,
}

impl Writer {
    fn open(path: &Path) -> Writer {
        let mut store = SqliteStore::open(path, KIND).unwrap();
        let Loaded { table, last_hash, pending } = store.load().unwrap();
        Writer { store, table, hash: last_hash, pending }
    }

    fn next(&self, changes: &[(&str, Option<&str>)], meta: Meta) -> Commit {
        let set = changes.iter().map(|(k, to)| (key(k), to.map(|to| Route::parse(to).unwrap()))).collect();
        let meta = Meta { actor: "tester".into(), ..meta };
        let order = Order { action: Action::Set(set), meta };
        let plan = switch::plan(&self.table, &rules(), &order, &self.pending).unwrap();
        plan.commit(self.hash, 1_000 + self.table.revision(), vec!["a note".into()])
    }

    fn take(&mut self, commit: Commit) -> Result<(), StoreFault> {
        self.store.commit(&commit)?;
        self.table = self.table.apply(&commit);
        self.hash = commit.hash;
        Pending::follow(&mut self.pending, &commit);
        Ok(())
    }

    fn set(&mut self, key: &str, to: Option<&str>) -> Result<(), StoreFault> {
        self.take(self.next(&[(key, to)], Meta::default()))
    }
}

/// The revision of a table, and its routes with their revisions by key.
type Shown = (u64, BTreeMap<String, (String, u64)>);

fn content(table: &Table) -> Shown {
    let entries = table.iter().map(|(k, e)| (k.to_string(), (e.route.to_string(), e.revision)));
    (table.revision(), entries.collect())
}

fn reopened(path: &Path) -> Result<(Loaded, Vec<Commit>), StoreFault> {
    let mut store = SqliteStore::open(path, KIND)?;
    let loaded = store.load()?;
    let history = store.since(0)?;
    Ok((loaded, history))
}

/// Returns a file with some history, closed.
fn written(folder: &Path, commits: usize) -> (PathBuf, Writer) {
    let path = folder.join("live.db");
    let mut writer = Writer::open(&path);
    for number in 0..commits {
        let name = format!("shop-{}.example.com", number % 40);
        let now = writer.table.get(&key(&name)).map(|e| e.route.to_string());
        let to = match now.as_deref() {
            None => Some("green"),
            Some("green") => Some("green=10 blue=90"),
            Some(_) => None,
        };
        let meta =
            Meta { idempotency: Some(format!("i{number}")), reason: Some("why".into()), ..Meta::default() };
        let commit = writer
            .next(&[(&name, to), (&format!("*.{name}"), Some(["red", "green"][number / 40 % 2]))], meta);
        writer.take(commit).unwrap();
    }
    (path, writer)
}

#[test]
fn commits_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 200);
    let confirm = Meta { confirm_within_ms: Some(60_000), ..Meta::default() };
    writer.take(writer.next(&[("p.example", Some("green"))], confirm)).unwrap();
    let (table, hash, pending) = (content(&writer.table), writer.hash, writer.pending.clone());
    assert_eq!(pending.len(), 1);
    drop(writer);
    let (loaded, history) = reopened(&path).unwrap();
    assert_eq!(content(&loaded.table), table);
    assert_eq!((loaded.last_hash, &loaded.pending), (hash, &pending));
    assert_eq!(switch::verify_chain(&history).unwrap(), Chain { revision: 201, hash });
    assert_eq!(history[0].gate, ["a note"]);
    assert_eq!(history[0].reason.as_deref(), Some("why"));

    let mut store = SqliteStore::open(&path, KeyKind::Text).unwrap();
    assert_eq!(store.key_kind(), KIND);
    assert_eq!(store.page(10, 5).unwrap(), history[10..15]);
    assert_eq!(store.since(199).unwrap(), history[199..]);
    assert_eq!(store.commit_by_idempotency("i7").unwrap().as_ref(), Some(&history[7]));
    assert_eq!(store.commit_by_idempotency("none").unwrap(), None);
    let name = key("shop-3.example.com");
    let about = store
        .history(&Filter {
            key: Some(name.clone()),
            before_revision: Some(100),
            limit: 2,
            ..Default::default()
        })
        .unwrap();
    assert_eq!(about.iter().map(|c| c.revision).collect::<Vec<_>>(), [84, 44]);
    let newest = store.history(&Filter { limit: 3, ..Default::default() }).unwrap();
    assert_eq!(newest.iter().map(|c| c.revision).collect::<Vec<_>>(), [201, 200, 199]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["live.db"], "a closed store is one file");
}

#[test]
fn a_part_of_the_history_is_the_same_in_a_file_and_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 30);
    let names: Vec<String> = (0..50).map(|number| format!("n{number}.example")).collect();
    let many: Vec<(&str, Option<&str>)> = names.iter().map(|name| (&**name, Some("red"))).collect();
    writer.take(writer.next(&many, Meta::default())).unwrap();
    let to = Action::Default { former: "blue".into(), target: "green".into() };
    let order = Order { action: to, meta: Meta { actor: "tester".into(), ..Meta::default() } };
    let plan = switch::plan(&writer.table, &rules(), &order, &writer.pending).unwrap();
    writer.take(plan.commit(writer.hash, 2_000, Vec::new())).unwrap();
    for _ in 0..3 {
        writer.set("shop-1.example.com", Some("red")).unwrap();
        writer.set("shop-1.example.com", Some("green")).unwrap();
    }
    let mut memory = switch::MemoryStore::new();
    for commit in &writer.store.since(0).unwrap() {
        memory.commit(commit).unwrap();
    }
    let mut compared = 0;
    for name in [None, Some("shop-1.example.com"), Some("n7.example"), Some("never.example")] {
        for (before_revision, after_revision) in
            [(None, 0), (Some(33), 0), (Some(35), 20), (None, 37), (Some(1), 0)]
        {
            for (limit, max_changes) in [(100, usize::MAX), (3, usize::MAX), (100, 1), (100, 40), (2, 5)] {
                for with_keys in [true, false] {
                    let key = name.map(key);
                    let page = Filter {
                        before_revision,
                        after_revision,
                        limit,
                        max_changes,
                        with_keys,
                        ..Filter::default()
                    };
                    let filter = Filter { key, ..page };
                    let found = writer.store.history(&filter).unwrap();
                    assert_eq!(found, memory.history(&filter).unwrap(), "{filter:?}");
                    compared += usize::from(!found.is_empty());
                }
            }
        }
        if let Some(name) = name {
            let found = writer.store.changes_of(&key(name), Some(36), 3).unwrap();
            assert_eq!(found, memory.changes_of(&key(name), Some(36), 3).unwrap());
        }
    }
    assert!(compared > 50, "{compared}");
    drop(path);
}

#[test]
fn a_commit_that_is_not_the_next_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 3);
    let stale = writer.next(&[("a.example", Some("red"))], Meta::default());
    let mut other = Writer::open(&path);
    writer.store.written_by_others().unwrap();
    assert!(!writer.store.written_by_others().unwrap());
    other.set("b.example", Some("red")).unwrap();
    assert_eq!(writer.store.commit(&stale).unwrap_err().kind, StoreFaultKind::Conflict);
    // The one who was overtaken learns what happened, and goes on after it.
    assert!(writer.store.written_by_others().unwrap());
    assert!(!writer.store.written_by_others().unwrap());
    let news = writer.store.since(3).unwrap();
    assert_eq!(news.len(), 1);
    let mut forged = other.next(&[("c.example", Some("red"))], Meta::default());
    forged.previous = Hash([7; 32]);
    forged.hash = forged.computed_hash();
    assert_eq!(other.store.commit(&forged).unwrap_err().kind, StoreFaultKind::Conflict);
    other.set("c.example", Some("red")).unwrap();
}

#[test]
fn a_store_with_another_writer_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 1);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(writer.set("a.example", Some("red")).unwrap_err().kind, StoreFaultKind::Locked);
    other.execute_batch("ROLLBACK").unwrap();
    writer.set("a.example", Some("red")).unwrap();
}

#[test]
fn receipts_are_kept_with_the_next_commit_or_in_a_quiet_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 2);
    writer.store.save_receipt(1, "one".into());
    assert_eq!(writer.store.receipt(1).unwrap().as_deref(), Some("one"));
    writer.set("a.example", Some("red")).unwrap();
    writer.store.save_receipt(2, "two".into());
    writer.store.idle();
    writer.store.save_receipt(2, "two, later".into());
    let mut other = SqliteStore::open(&path, KIND).unwrap();
    assert_eq!(other.receipt(1).unwrap().as_deref(), Some("one"));
    assert_eq!(other.receipt(2).unwrap().as_deref(), Some("two"));
    assert_eq!(other.receipt(3).unwrap(), None);
    writer.store.save_receipt(2 + MAX_RECEIPTS as u64, "far".into());
    writer.store.idle();
    assert_eq!(other.receipt(2).unwrap(), None, "only so many are kept");
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let kind = |path: &Path| match SqliteStore::open(path, KIND) {
        Ok(_) => panic!("{path:?} was opened"),
        Err(fault) => {
            assert!(fault.text.contains(path.to_str().unwrap()), "{fault}");
            assert!(!fault.remedy.is_empty());
            fault.kind
        }
    };
    fs::write(at("text"), "upstream blue { server 127.0.0.1:8081; }\n".repeat(200)).unwrap();
    assert_eq!(kind(&at("text")), StoreFaultKind::Damaged);
    fs::write(at("empty"), "").unwrap();
    assert_eq!(kind(&at("empty")), StoreFaultKind::Damaged);
    assert_eq!(fs::metadata(at("empty")).unwrap().len(), 0, "it is left as it is");
    assert_eq!(kind(folder.path()), StoreFaultKind::Unreadable);
    assert_eq!(kind(&at("no/folder/live.db")), StoreFaultKind::Unreadable);

    Connection::open(at("other")).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert_eq!(kind(&at("other")), StoreFaultKind::Unreadable);

    let (path, writer) = written(folder.path(), 3);
    drop(writer);
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", schema::Format::NEWEST.version() + 1)
        .unwrap();
    assert_eq!(kind(&path), StoreFaultKind::Newer);
    // The documented way out.
    fs::rename(&path, at("away")).unwrap();
    assert_eq!(content(&reopened(&path).unwrap().0.table), (0, BTreeMap::new()));
}

#[test]
fn a_row_that_is_not_what_was_committed_is_found() {
    let forgeries = [
        "UPDATE entries SET route = 'red' WHERE key = 'shop-1.example.com'",
        "UPDATE entries SET key = 'shop-x.example.com' WHERE key = 'shop-1.example.com'",
        "UPDATE entries SET revision = 1 WHERE key = 'shop-2.example.com'",
        "DELETE FROM entries WHERE key = 'shop-1.example.com'",
        "INSERT INTO entries VALUES ('new.example.com', 'red', 1)",
        "UPDATE commits SET actor = 'somebody else' WHERE revision = 9",
        "UPDATE changes SET after = 'red' WHERE revision = 9 AND place = 0",
        "DELETE FROM changes WHERE revision = 9",
        "DELETE FROM commits WHERE revision = 9",
        "DELETE FROM commits WHERE revision = (SELECT max(revision) FROM commits)",
        "UPDATE head SET revision = revision - 1",
        "UPDATE commits SET kind = 'sat' WHERE revision = 9",
        "UPDATE commits SET extra = '{\"a\":\"b\"}' WHERE revision = 9",
        "UPDATE changes SET subject = 'server' WHERE revision = 9",
        "INSERT INTO pending VALUES (9, 1)",
        "INSERT INTO subjects VALUES ('default', '', 'red', 9)",
        "DELETE FROM pending WHERE revision = 21",
        "UPDATE pending SET confirm_by_ms = confirm_by_ms + 1",
        "DELETE FROM head",
    ];
    for forgery in forgeries {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut writer) = written(folder.path(), 20);
        let confirm = Meta { confirm_within_ms: Some(60_000), ..Meta::default() };
        writer.take(writer.next(&[("p.example", Some("green"))], confirm)).unwrap();
        drop(writer);
        assert!(Connection::open(&path).unwrap().execute(forgery, []).unwrap() > 0, "{forgery}");
        let fault = reopened(&path).map(drop).unwrap_err();
        assert_eq!(fault.kind, StoreFaultKind::Damaged, "{forgery}: {fault}");
        assert!(fault.remedy.contains("move"), "{fault}");
    }
}

#[test]
fn an_index_that_leads_astray_is_found() {
    let astray = "DROP INDEX changes_by_key;
        CREATE INDEX changes_by_key ON changes (iif(revision = 9, 'elsewhere', key), revision);
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX changes_by_key ON changes (key, revision)'
            WHERE name = 'changes_by_key';";
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = written(folder.path(), 20);
    drop(writer);
    Connection::open(&path).unwrap().execute_batch(astray).unwrap();
    assert_eq!(reopened(&path).map(drop).unwrap_err().kind, StoreFaultKind::Damaged);

    // One that is too large for that is found by going through the history.
    let more = "INSERT INTO receipts VALUES (1, printf('%.*c', 5000000, 'x'))";
    Connection::open(&path).unwrap().execute(more, []).unwrap();
    let mut store = SqliteStore::open(&path, KIND).unwrap();
    assert_eq!(store.page(0, 8).unwrap().len(), 8);
    let fault = store.page(8, 8).unwrap_err();
    assert_eq!(fault.kind, StoreFaultKind::Damaged);
    assert!(fault.text.contains("omits revision 9"), "{fault}");
}

/// Returns a small generator: the same bytes are damaged in every run.
fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

#[test]
fn damaged_bytes_are_found_or_mean_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = written(folder.path(), 60);
    let right = (content(&writer.table), writer.hash);
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let mut seed = 7;
    let mut found = 0;
    for round in 0..250 {
        // The first hundred bytes are the header of all.
        let offset = if round < 100 { round } else { next(&mut seed) % whole.len() };
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << (next(&mut seed) % 8);
        fs::write(&path, &bytes).unwrap();
        match reopened(&path) {
            Err(fault) => {
                found += 1;
                assert!(!fault.text.is_empty() && !fault.remedy.is_empty());
            }
            Ok((loaded, _)) => {
                assert_eq!((content(&loaded.table), loaded.last_hash), right, "byte {offset} went unnoticed");
            }
        }
    }
    assert!(found > 60, "only {found} of 250 were found: most of the file should matter");
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = written(folder.path(), 60);
    drop(writer);
    let whole = fs::read(&path).unwrap();
    let mut seed = 11;
    for round in 0..120 {
        let length = if round < 20 { round * 37 } else { next(&mut seed) % whole.len() };
        fs::write(&path, &whole[..length]).unwrap();
        let fault = reopened(&path).map(drop).unwrap_err();
        assert!(!fault.remedy.is_empty(), "{length}: {fault}");
    }
}

#[test]
fn damage_to_the_log_loses_no_commit_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 5);
    writer.store.idle();
    let mut states = vec![content(&writer.table)];
    for number in 0..30 {
        writer.set(&format!("n{number}.example"), Some("green")).unwrap();
        states.push(content(&writer.table));
    }
    let log = path.with_file_name("live.db-wal");
    let (file, frames) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    // As it was left by a process that was killed.
    let copy = folder.path().join("copy.db");
    let lay = |frames: &[u8]| {
        let _ = fs::remove_file(folder.path().join("copy.db-shm"));
        fs::write(&copy, &file).unwrap();
        fs::write(folder.path().join("copy.db-wal"), frames).unwrap();
    };
    lay(&frames);
    assert_eq!(content(&reopened(&copy).unwrap().0.table), states[30]);
    let mut seed = 3;
    let (mut faults, mut shorter) = (0, 0);
    for _ in 0..150 {
        let mut damaged = frames.clone();
        let offset = next(&mut seed) % damaged.len();
        damaged[offset] ^= 1 << (next(&mut seed) % 8);
        lay(&damaged);
        match reopened(&copy) {
            Err(fault) => {
                assert_eq!(fault.kind, StoreFaultKind::Damaged, "{fault}");
                faults += 1;
            }
            Ok((loaded, _)) => {
                let now = content(&loaded.table);
                // The last commit alone cannot be told from one that was being written; see `idle`.
                assert!(now == states[30] || now == states[29], "a flip at {offset} went unnoticed");
                shorter += usize::from(now == states[29]);
            }
        }
    }
    assert!(faults > 100 && shorter < 30, "{faults} faults, {shorter} last commits");
    // What a crash leaves: the log ends anywhere within the last commit.
    let last = frames.len() - 100;
    lay(&frames[..last]);
    assert_eq!(content(&reopened(&copy).unwrap().0.table), states[29]);
}

#[test]
fn a_file_that_is_moved_away_while_it_is_open_takes_no_more_commits() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 3);
    fs::rename(&path, folder.path().join("away.db")).unwrap();
    let fault = writer.set("a.example", Some("red")).unwrap_err();
    assert_eq!(fault.kind, StoreFaultKind::Unreadable, "{fault}");
    fs::rename(folder.path().join("away.db"), &path).unwrap();
    writer.set("a.example", Some("red")).unwrap();
}

/// Runs one of the tests below in a process of its own, with a shell's preparations.
fn in_child(test: &str, prepare: &str, path: &Path) -> Option<String> {
    let script = format!("{prepare} \"$0\" --exact \"$1\" --nocapture");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    shell.arg(format!("{}::{test}", module_path!().split_once("::").unwrap().1));
    let output = shell.env("POINTSMAN_STORE", path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|line| line.split_once("said: ").map(|(_, said)| said.to_owned()))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Does nothing unless it is run by [`in_child`].
#[test]
fn child_opens_and_commits() {
    let Some(path) = std::env::var_os("POINTSMAN_STORE").map(PathBuf::from) else { return };
    let mut store = match SqliteStore::open(&path, KIND) {
        Ok(store) => store,
        Err(fault) => return println!("said: open {:?}: {fault}", fault.kind),
    };
    let Loaded { table, last_hash, pending } = store.load().unwrap();
    let mut writer = Writer { store, table, hash: last_hash, pending };
    for number in 0..2000 {
        if let Err(fault) = writer.set(&format!("{number}.{}.example", "x".repeat(200)), Some("red")) {
            // What was refused is not there, and what was kept is.
            let right = content(&writer.table);
            assert_eq!(content(&writer.store.load().unwrap().table), right);
            return println!("said: commit {:?}: {fault}", fault.kind);
        }
    }
    println!("said: ok");
}

#[test]
fn a_file_that_may_not_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = written(folder.path(), 3);
    drop(writer);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let said = if is_root() {
        // Root may write everything: somebody else must try.
        let reachable = Command::new("setpriv").arg("--version").output().is_ok_and(|o| o.status.success());
        if !reachable {
            return println!("skipped: no setpriv to become somebody else with");
        }
        in_child("child_opens_and_commits", "setpriv --reuid 65534 --regid 65534 --clear-groups", &path)
    } else {
        in_child("child_opens_and_commits", "", &path)
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let said = said.unwrap();
    assert!(said.starts_with("open ReadOnly: ") || said.starts_with("open Unreadable: "), "{said}");
    assert!(said.contains("allow the worker's user"), "{said}");
    assert_eq!(reopened(&path).unwrap().1.len(), 3);
}

#[test]
fn a_file_that_reaches_its_limit_takes_no_more_commits_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let (path, writer) = written(folder.path(), 3);
    drop(writer);
    // Blocks of 512 bytes: 1 MiB.
    let said = in_child("child_opens_and_commits", "trap '' XFSZ; ulimit -f 2048;", &path).unwrap();
    assert!(said.starts_with("commit Failed") || said.starts_with("commit Full"), "{said}");
    let mut writer = Writer::open(&path);
    assert!(writer.table.revision() > 3);
    writer.set("room.again", Some("red")).unwrap();
}

#[test]
fn a_full_disk_is_a_refusal_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&disk).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return println!("skipped: no right to mount a small file system");
    }
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(disk.clone());
    let path = disk.join("live.db");
    let mut writer = Writer::open(&path);
    fs::write(disk.join("reserve"), vec![0; 256 << 10]).unwrap();
    let fault = (0..4000)
        .find_map(|number| writer.set(&format!("{number}.{}.example", "x".repeat(200)), Some("red")).err())
        .expect("a megabyte does not hold it");
    assert_eq!(fault.kind, StoreFaultKind::Full, "{fault}");
    let right = content(&writer.table);
    assert_eq!(content(&writer.store.load().unwrap().table), right, "what was refused is not there");
    // A start on a full disk loses nothing either.
    drop(writer);
    fs::write(disk.join("more"), vec![0; 1 << 20]).unwrap_err();
    match SqliteStore::open(&path, KIND) {
        Ok(mut store) => assert_eq!(content(&store.load().unwrap().table), right),
        Err(fault) => assert_eq!(fault.kind, StoreFaultKind::Full, "{fault}"),
    }
    fs::remove_file(disk.join("reserve")).unwrap();
    fs::remove_file(disk.join("more")).unwrap();
    let mut writer = Writer::open(&path);
    assert_eq!(content(&writer.table), right);
    writer.set("room.again", Some("red")).unwrap();
}
