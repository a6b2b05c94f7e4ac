//! Backups, and a store that is damaged under a running server.

use super::*;
use std::os::unix::fs::FileExt;

#[test]
fn a_damaged_store_stops_no_traffic_and_is_restored() {
    let server = Server::start("", "");
    let backup = server.path("monday.backup").display().to_string();
    server.say(&["switch", "a.example", "green"]).done();
    let saved = server.say(&["backup", &backup]).done();
    assert!(saved.starts_with("saved revision 1, last hash "), "{saved}");
    server.say(&["switch", "b.example", "green"]).done();

    // All of the file but its first page.
    let store = server.path("state/live.db");
    let file = std::fs::OpenOptions::new().write(true).open(&store).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    file.write_all_at(&vec![0; length - 4096], 4096).unwrap();
    server.replace_worker();
    // The next worker follows the second file, to the last order.
    for (host, side) in [("a.example", "green"), ("b.example", "green")] {
        assert!(server.get(host).ends_with(side), "{host}");
    }
    let refused = server.say(&["switch", "a.example", "blue"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("store_damaged") || refused.err.contains("is damaged"), "{}", refused.err);
    let list = server.say(&["list"]).done();
    assert!(list.contains("traffic follows revision 2 of the second file"), "{list}");

    let restored = server.say(&["restore", &backup, "--reason", "the disk"]).done();
    assert!(
        restored.starts_with("restored revision 1 in place of revision 2: now revision 3, epoch 2"),
        "{restored}"
    );
    assert!(restored.contains("the server has reloaded"), "{restored}");
    assert!(server.get("a.example").ends_with("green"));
    server.say(&["switch", "b.example", "green"]).done();
    assert!(server.get("b.example").ends_with("green"));
    let history = server.say(&["history", "--verify"]).done();
    assert!(history.contains("restore") && history.contains("live: 3 commits verified"), "{history}");
    assert!(!server.say(&["list"]).done().contains("store:"));
}

#[test]
fn a_damaged_store_of_groups_is_said_wherever_groups_are_shown() {
    let server = Server::start(
        "",
        "upstream pool { server 127.0.0.1:9; server 127.0.0.2:9; } server { listen unix:{folder}/metrics; location / { metrics; } }",
    );
    server.say(&["server", "pool", "drain", "127.0.0.1:9"]).done();
    for name in ["groups.db", "groups.db-anchor"] {
        let file = std::fs::OpenOptions::new().write(true).open(server.path("state").join(name)).unwrap();
        let length = file.metadata().unwrap().len() as usize;
        file.write_all_at(&vec![0; length], 0).unwrap();
    }
    server.replace_worker();
    for words in [
        &["status"][..],
        &["server"],
        &["server", "pool"],
        &["group", "list"],
        &["history", "--switch", "groups"],
    ] {
        let said = server.say(words).done();
        assert!(said.contains("store: "), "{words:?}: {said}");
    }
    assert!(server.say(&["server", "--json"]).json()["store_fault"]["text"].is_string());
    let mut stream = bounded(UnixStream::connect(server.path("metrics")).unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("pointsman_switch_store_fault{switch=\"groups\"} 1"), "{metrics}");
}

#[test]
fn a_store_that_is_lost_with_its_second_file_refuses_its_own_requests_alone() {
    let other = "server { listen unix:{folder}/other; location / { return 200 other; } }";
    let server = Server::start("", other);
    server.say(&["switch", "a.example", "green"]).done();
    for name in ["live.db", "live.db-anchor"] {
        let path = server.path("state").join(name);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0; length], 0).unwrap();
    }
    server.replace_worker();
    let asked = |socket: &str| {
        let mut stream = UnixStream::connect(server.path(socket)).map(bounded).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(asked("front").starts_with("HTTP/1.1 503"), "{}", asked("front"));
    assert!(asked("other").ends_with("other"));
    let list = server.say(&["list"]).done();
    assert!(list.contains("no table can be trusted"), "{list}");
}

/// Has the worker process killed, and waits for the next one.
fn next_worker(server: &Server) {
    server.replace_worker();
}

#[test]
fn other_files_in_place_of_a_store_s_do_not_stop_traffic() {
    let other = "upstream pool { server 127.0.0.1:1; server 127.0.0.1:2; }
                 server { listen unix:{folder}/other; location / { return 200 other; } }";
    let server = Server::start("", other);
    server.say(&["switch", "a.example", "green"]).done();
    server.say(&["server", "pool", "drain", "127.0.0.1:1"]).done();
    let asked = || {
        let mut stream = UnixStream::connect(server.path("other")).map(bounded).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    for (file, make) in [
        ("live.db-holds", "touch"),
        ("groups.db-holds", "touch"),
        ("live.db-lock", "mkdir"),
        ("groups.db-lock", "mkfifo"),
        ("live.db-anchor", "mkfifo"),
        ("groups.db-anchor", "mkfifo"),
        ("live.db-wal", "mkfifo"),
    ] {
        let path = server.path("state").join(file);
        let kept = path.with_extension("kept");
        let is_kept = std::fs::rename(&path, &kept).is_ok();
        assert!(Command::new(make).arg(&path).status().unwrap().success());
        // It is answered, whatever comes of it.
        server.say(&["switch", "b.example", "green"]);
        next_worker(&server);
        assert!(asked().ends_with("other"), "{file}");
        assert!(server.get("a.example").ends_with("green"), "{file}");
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&path);
        if is_kept {
            std::fs::rename(&kept, &path).unwrap();
        }
        next_worker(&server);
        server.say(&["switch", "c.example", "green"]).done();
        server.say(&["switch", "c.example", "blue"]).done();
    }
}

#[test]
fn root_restores_as_the_user_whose_folder_it_is() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
    let server = Server::start("", "");
    if std::fs::metadata(server.folder.path()).unwrap().uid() != 0 {
        return eprintln!("skipped: only root could be led elsewhere");
    }
    let worker_id = 65534;
    server.say(&["switch", "a.example", "green"]).done();
    let backup = server.path("monday.backup").display().to_string();
    server.say(&["backup", &backup]).done();
    // The worker's user owns the folder, and the way there is open.
    std::fs::set_permissions(server.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = server.path("its");
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(worker_id), Some(worker_id)).unwrap();
    let (store, system) = (state.join("live.db"), server.path("shadow"));
    std::fs::write(&system, "root").unwrap();
    std::fs::set_permissions(&system, std::fs::Permissions::from_mode(0o600)).unwrap();
    let restore = || server.say(&["restore", &backup, "--state", store.to_str().unwrap()]);
    for name in ["live.db-lock", "live.db-anchor", "live.db"] {
        let link = state.join(name);
        symlink(&system, &link).unwrap();
        lchown(&link, Some(worker_id), Some(worker_id)).unwrap();
        restore();
        let found = std::fs::metadata(&system).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600), "{name}");
        assert_eq!(std::fs::read_to_string(&system).unwrap(), "root", "{name}");
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::create_dir(&state).unwrap();
        chown(&state, Some(worker_id), Some(worker_id)).unwrap();
    }
    // Also where no store was, all is that user's.
    restore().done();
    let owners: Vec<(String, u32)> = std::fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().uid()))
        .collect();
    assert!(owners.len() >= 3 && owners.iter().all(|(_, owner)| *owner == worker_id), "{owners:?}");
}

#[test]
fn another_switch_and_what_is_no_backup_are_not_restored() {
    let server = Server::start("", "switch $http_x_key $edge { default blue; targets blue green; }");
    server.say(&["--switch", "live", "switch", "a.example", "green"]).done();
    server.say(&["--switch", "edge", "switch", "A", "green"]).done();
    let at = |name: &str| server.path(name).display().to_string();
    server.say(&["--switch", "live", "backup", &at("live.backup")]).done();
    let other = server.say(&["--switch", "edge", "restore", &at("live.backup"), "-m", "x"]);
    assert_eq!(other.code, 1, "{}", other.out);
    assert!(other.err.contains("its keys are hosts, and those of the store texts"), "{}", other.err);
    std::fs::write(at("text"), "no store").unwrap();
    for (name, expected) in
        [("text", "is no backup that can be restored"), ("none", "cannot be read: No such file")]
    {
        let refused = server.say(&["--switch", "live", "restore", &at(name), "-m", "x"]);
        assert!(refused.code == 1 && refused.err.contains(expected), "{}", refused.err);
        assert!(refused.err.contains("nothing has changed"), "{}", refused.err);
    }
    assert!(server.get("a.example").ends_with("green"));
}
