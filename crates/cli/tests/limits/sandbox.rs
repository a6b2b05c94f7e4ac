//! Operations that a worker process is not allowed.

use super::*;

const HTTP: &str = r#"server { listen unix:{folder}/front;
    location /unshare { content_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int unshare(int);"
        ngx.print(ffi.C.unshare(0), " ", ffi.errno()) } }
    location /socket { content_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int socket(int, int, int);"
        ngx.print(ffi.C.socket(17, 3, 0), " ", ffi.errno()) } }
    location /calls { content_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "long syscall(long, ...);"
        -- pidfd_send_signal, pidfd_open, process_madvise, process_mrelease: of this process itself.
        for _, number in ipairs { 424, 434, 440, 448 } do
            ngx.print(tonumber(ffi.C.syscall(number, ffi.cast("long", ngx.worker.pid()), 0, 0, 0, 0)), " ", ffi.errno(), ";")
        end } }
    location /program { content_by_lua_block {
        local pipe = io.popen("echo program")
        ngx.print(pipe and pipe:read("*a") or "none") } }
    location /file { content_by_lua_block {
        local file = assert(io.open("{folder}/html/made", "w"))
        file:write("file") file:close()
        ngx.print(io.open("{folder}/html/made"):read("*a")) } } }"#;

/// Is a kernel beneath us that takes filters?
fn has_filters() -> bool {
    std::path::Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

#[test]
fn a_worker_has_no_more_rights_than_it_needs() {
    let server = Server::start(Setup { http: HTTP, ..Setup::default() });
    assert!(server.get("/file").ends_with("file"));
    assert_eq!(server.worker_status("NoNewPrivs"), "1");
    if !has_filters() {
        eprintln!("a_worker_has_no_more_rights_than_it_needs: skipped, the kernel has no seccomp");
        return;
    }
    assert_eq!(server.worker_status("Seccomp"), "2");
    assert!(server.get("/unshare").ends_with("-1 1"), "EPERM: {}", server.get("/unshare"));
    assert!(server.get("/calls").ends_with("-1 1;-1 1;-1 1;-1 1;"), "EPERM: {}", server.get("/calls"));
    assert!(server.get("/socket").ends_with("-1 97"), "EAFNOSUPPORT");
    // What scripts may do anywhere, they may do here.
    assert!(server.get("/program").ends_with("program\n"));
}

#[test]
fn a_strict_sandbox_starts_no_program() {
    let server = Server::start(Setup { main: "sandbox strict;", http: HTTP, ..Setup::default() });
    if has_filters() {
        assert!(!server.get("/program").contains("program"));
    }
    assert!(server.get("/file").ends_with("file"));
}

#[test]
fn the_sandbox_can_be_left_out() {
    let server = Server::start(Setup { main: "sandbox off;", http: HTTP, ..Setup::default() });
    let answer = server.get("/unshare");
    assert!(answer.contains("\r\n\r\n0 "), "{answer}");
    assert_eq!(server.worker_status("NoNewPrivs"), "0");
}

#[test]
fn a_worker_of_root_becomes_its_user_wholly() {
    if user() != "root" {
        eprintln!("a_worker_of_root_becomes_its_user_wholly: skipped, needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let http = "server { listen unix:{folder}/front; return 200 here; }";
    let server = Server::start_in(folder, Setup { main: "user nobody nogroup;", http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let ids = |name| server.worker_status(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ids("Uid"), ["65534"; 4]);
    assert_eq!(ids("Gid"), ["65534"; 4]);
    assert_eq!(ids("Groups"), ["65534"]);
    let none = "0000000000000000";
    for kind in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(server.worker_status(kind), none, "{kind}");
    }
    // Where this process may not drop it either, there is nothing to see.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let may_drop = u64::from_str_radix(own, 16).unwrap() & 1 << 8 != 0;
    match may_drop {
        true => assert_eq!(server.worker_status("CapBnd"), none),
        false => eprintln!("a_worker_of_root_becomes_its_user_wholly: no CAP_SETPCAP"),
    }
}

/// Where no script is, no program is started; a reload that brings one brings a worker process that may.
#[test]
fn a_reload_with_the_first_script_gets_another_worker() {
    let http = "server { listen unix:{folder}/front; return 200 old; }";
    let server = Server::start(Setup { http, ..Setup::default() });
    let worker = server.worker();
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    let script = "content_by_lua_block { ngx.print(io.popen('echo program'):read('*a')) }";
    let newer = conf.replace("return 200 old;", &format!("location / {{ {script} }}"));
    std::fs::write(server.path("conf/nginx.conf"), newer).unwrap();
    assert!(server.say(&["-s", "reload"]).status.success());
    server.until("the script serves", || server.get("/").ends_with("program\n"));
    server.until("the worker before it has ended", || server.worker() != worker);
}
