//! Start, test and signal commands: exit codes and messages.

use crate::test_server::*;
use nix::sys::signal::Signal;

pub const TESTS: &[(&str, fn())] = &[
    ("a_daemon_has_started_when_the_command_ends", a_daemon_has_started_when_the_command_ends),
    ("with_daemon_off_the_command_is_the_master", with_daemon_off_the_command_is_the_master),
    (
        "an_invalid_configuration_is_reported_and_not_started",
        an_invalid_configuration_is_reported_and_not_started,
    ),
    ("a_worker_that_cannot_start_fails_the_command", a_worker_that_cannot_start_fails_the_command),
    ("an_address_in_use_is_reported_as_by_nginx", an_address_in_use_is_reported_as_by_nginx),
    ("an_unwritable_log_or_pid_file_fails_the_start", an_unwritable_log_or_pid_file_fails_the_start),
    ("the_worker_is_not_root", the_worker_is_not_root),
    ("only_named_variables_reach_the_worker", only_named_variables_reach_the_worker),
    ("a_test_does_not_disturb_a_running_server", a_test_does_not_disturb_a_running_server),
    ("a_dump_prints_every_file", a_dump_prints_every_file),
    ("signals_need_a_pid_file", signals_need_a_pid_file),
    ("process_titles_name_master_and_worker", process_titles_name_master_and_worker),
];

fn a_daemon_has_started_when_the_command_ends() {
    let server = TestServer::new("listen unix:a.sock;\nword hello;\nerror_log error.log;\ntemp body;\n");
    server.start();
    let pid = server.pid();
    assert!(alive(pid));
    assert_eq!(server.read("pid"), format!("{pid}\n"));
    let answer = server.ask("a.sock");
    assert_eq!((answer.word.as_str(), answer.generation), ("hello", 1));
    assert_ne!(answer.pid, pid, "the master does not serve");
    assert!(server.path("body").is_dir());
    // The daemon has left this session.
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap();
    assert_eq!(session.as_raw(), pid);

    assert!(server.run("stop").status.success());
    server.ended(pid);
    server.ended(answer.pid);
    assert!(!server.path("pid").exists());
    assert!(!server.path("a.sock").exists());
    let log = server.read("error.log");
    for line in [
        "[notice]",
        "start worker processes",
        &format!("start worker process {}", answer.pid),
        "signal 15 (SIGTERM) received from",
        &format!("worker process {} exited with code 0", answer.pid),
        ": exit\n",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert!(!log.contains("[alert]"), "{log}");
}

fn with_daemon_off_the_command_is_the_master() {
    let mut server = TestServer::new("daemon off;\nlisten unix:a.sock;\nword hello;\nerror_log error.log;\n");
    server.start_in_foreground();
    assert_eq!(server.pid() as u32, server.foreground().id());
    assert_eq!(server.ask("a.sock").word, "hello");
    // A terminal whose window changes must not stop the worker.
    server.kill(Signal::SIGWINCH);
    assert_eq!(server.ask("a.sock").word, "hello");
    server.kill(Signal::SIGINT);
    assert_eq!(end_of(server.foreground()).code(), Some(0));
}

fn an_invalid_configuration_is_reported_and_not_started() {
    let server = TestServer::new("listen unix:a.sock;\nbroken 1;\nwrong 2;\nwarn careful;\n");
    let output = server.run("");
    assert_eq!(output.status.code(), Some(1));
    let conf = server.path("nginx.conf");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!(
        "pointsman: [emerg] unknown directive \"broken\" in {0}:2\npointsman: [emerg] unknown directive \"wrong\" \
         in {0}:3\npointsman: [warn] careful in {0}:4\n",
        conf.display()
    );
    assert_eq!(stderr, expected);
    assert!(
        server.read("first.log").contains(&format!("unknown directive \"broken\" in {}:2\n", conf.display()))
    );
    assert!(!server.path("pid").exists() && !server.path("a.sock").exists());
}

fn a_worker_that_cannot_start_fails_the_command() {
    for mode in ["", "master_process off;\n"] {
        let server = TestServer::new(&format!(
            "{mode}listen unix:a.sock;\nerror_log error.log;\ninit_fails no-lua;\n"
        ));
        let output = server.run("");
        assert_eq!(output.status.code(), Some(1), "{mode}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("pointsman: [emerg] no-lua\n"), "{mode}{stderr}");
        assert!(server.read("error.log").contains("no-lua"), "{mode}");
        until("the last steps", || !server.path("pid").exists() && !server.path("a.sock").exists());
    }
}

fn an_address_in_use_is_reported_as_by_nginx() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let server = TestServer::new(&format!("listen {address};\nlisten unix:a.sock;\nerror_log error.log;\n"));
    let output = server.run("");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let line = format!("pointsman: [emerg] bind() to {address} failed (98: Address already in use)\n");
    assert_eq!(stderr, format!("{}pointsman: [emerg] still could not bind()\n", line.repeat(5)));
    assert_eq!(server.read("first.log").matches("[notice]").count(), 4, "{}", server.read("first.log"));
    assert!(!server.path("a.sock").exists() && !server.path("pid").exists());
}

fn an_unwritable_log_or_pid_file_fails_the_start() {
    let server = TestServer::new("listen unix:a.sock;\nlog nowhere/x.log;\n");
    let output = server.run("");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "pointsman: [emerg] open() \"{}\" failed (2: No such file or directory)\n",
        server.path("nowhere/x.log").display()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);

    server.configure("listen unix:a.sock;\npid nowhere/pid;\n");
    let output = server.run("");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nowhere/pid\" failed (2:"));
    assert!(!server.path("a.sock").exists());
}

fn the_worker_is_not_root() {
    let server = TestServer::new("listen unix:a.sock;\nword x;\nerror_log error.log;\ntemp body;\n");
    if !is_root() {
        // Nothing can be given up; a `user` is only worth a warning.
        server.configure("listen unix:a.sock;\nuser daemon;\n");
        let output = server.run("test");
        assert!(output.status.success());
        assert!(
            String::from_utf8(output.stderr).unwrap().contains("makes sense only if the master process runs")
        );
        return;
    }
    server.start();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let answer = server.ask("a.sock");
    assert_eq!(answer.uid, nobody);
    assert_eq!(owner_of(&server.path("body")), nobody);
    let status = std::fs::read_to_string(format!("/proc/{}/status", answer.pid)).unwrap();
    let groups = status.lines().find(|line| line.starts_with("Groups:")).unwrap();
    let gid = status.lines().find(|line| line.starts_with("Gid:")).unwrap();
    assert!(!groups.split_whitespace().any(|group| group == "0"), "{groups}");
    assert!(!gid.split_whitespace().any(|group| group == "0"), "{gid}");

    server.configure("listen unix:a.sock;\nuser no-such-user-here;\nerror_log error.log;\n");
    let output = server.run("test");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("getpwnam(\"no-such-user-here\") failed in {}:2\n", server.path("nginx.conf").display());
    assert!(stderr.contains(&expected), "{stderr}");
}

fn only_named_variables_reach_the_worker() {
    for mode in ["", "master_process off;\n"] {
        let conf =
            format!("{mode}listen unix:a.sock;\nword x;\nenv KEPT_ONE;\nenv GIVEN 7;\nenv UNSET_ONE;\n");
        let server = TestServer::new(&conf);
        let mut command = server.command("");
        command.env("KEPT_ONE", "1").env("LOST_ONE", "2").env("TZ", "UTC").env_remove("UNSET_ONE");
        assert!(status_of(command).success());
        let answer = server.ask("a.sock");
        let mut seen: Vec<&str> = answer.env.split(',').collect();
        seen.sort_unstable();
        assert_eq!(seen, ["GIVEN=7", "KEPT_ONE=1", "TZ=UTC"], "{mode}");
        assert!(server.run("stop").status.success());
        server.ended(answer.pid);
    }
}

fn a_test_does_not_disturb_a_running_server() {
    let address = free_address();
    let server =
        TestServer::new(&format!("listen {address};\nlisten unix:a.sock;\nword x;\nerror_log error.log;\n"));
    let output = server.run("test");
    let conf = server.path("nginx.conf");
    let expected = format!(
        "pointsman: the configuration file {0} syntax is ok\npointsman: configuration file {0} test is successful\n",
        conf.display()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    assert!(output.status.success());
    assert!(!server.path("pid").exists() && !server.path("a.sock").exists());

    server.start();
    let pid = server.pid();
    assert!(server.run("test").status.success());
    assert_eq!(server.pid(), pid);
    assert_eq!(server.ask("a.sock").word, "x");

    server.configure("bad;\n");
    let output = server.run("test");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "pointsman: [emerg] unknown directive \"bad\" in {0}:1\n\nPICTURE of unknown directive \"bad\" in {0}:1\n\
         pointsman: configuration file {0} test failed\n",
        conf.display()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

fn a_dump_prints_every_file() {
    let server = TestServer::new("word x;\n");
    let output = server.run("dump");
    assert!(output.status.success() && output.stderr.is_empty());
    let expected = format!("# configuration file {}:\nword x;\n\n", server.path("nginx.conf").display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

fn signals_need_a_pid_file() {
    let server = TestServer::new("word x;\n");
    let output = server.run("reload");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let path = server.path("pid");
    let expected =
        format!("pointsman: [error] open() \"{}\" failed (2: No such file or directory)\n", path.display());
    assert_eq!(stderr, expected);
    for text in ["", "none", "0", "-1"] {
        std::fs::write(&path, text).unwrap();
        let output = server.run("quit");
        assert_eq!(output.status.code(), Some(1), "{text:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(&format!("invalid PID number \"{text}\" in")), "{stderr}");
    }
}

fn process_titles_name_master_and_worker() {
    let server = TestServer::new("listen unix:a.sock;\nword x;\n");
    server.start();
    let title = |pid: i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned()
    };
    assert!(title(server.pid()).starts_with("pointsman: master process "), "{}", title(server.pid()));
    let worker = server.ask("a.sock").pid;
    assert_eq!(title(worker), "pointsman: worker process");
}
