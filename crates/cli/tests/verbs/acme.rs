//! Certificates by themselves, from a real ACME server: Pebble. Without it (Debian's package `pebble`) the tests are skipped.
//!
//! Pebble asks for proofs at the ports of the test; its own resolver says that every name is this machine.

mod dns_update;
mod on_demand;

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use testkit::ports::{Port, reserve};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

/// A Pebble, its resolver, and the ports at which it asks.
struct Pebble {
    /// Dropped first: the files are in the folder.
    _processes: Vec<ProcessGroup>,
    folder: TempDir,
    listen: Port,
    management: Port,
    http: Port,
    tls: Port,
    /// Where its resolver takes orders.
    resolver: Port,
    _dns: Port,
}

impl Pebble {
    /// Starts one whose certificates are valid for so many seconds, with more of its settings; `None` if there is none.
    fn start(test: &str, validity_s: u64, more: &str) -> Option<Pebble> {
        Pebble::start_with(test, validity_s, more, None)
    }

    /// Returns the same, with another resolver than its own.
    fn start_with(test: &str, validity_s: u64, more: &str, asked: Option<&str>) -> Option<Pebble> {
        let path = std::env::var_os("PATH")?;
        let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
        if !has("pebble") || !has("pebble-challtestsrv") {
            eprintln!("skipped: {test} needs pebble (Debian package pebble)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let [listen, management, http, tls, dns, commands] = std::array::from_fn(|_| reserve().unwrap());
        write_certificates(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let settings = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{}", "managementListenAddress": "127.0.0.1:{}",
                "certificate": "{}", "privateKey": "{}", "httpPort": {}, "tlsPort": {},
                "certificateValidityPeriod": {validity_s} {more}}}}}"#,
            listen.number,
            management.number,
            at("pebble.pem"),
            at("pebble.pem"),
            http.number,
            tls.number
        );
        std::fs::write(at("pebble.json"), settings).unwrap();
        let dns_address = format!("127.0.0.1:{}", dns.number);
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns_address]);
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        resolver.args(["-management", &format!("127.0.0.1:{}", commands.number)]);
        let mut server = Command::new("pebble");
        server.args(["-config", &at("pebble.json"), "-dnsserver", asked.unwrap_or(&dns_address)]);
        server.envs([
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "5"),
            ("PEBBLE_AUTHZREUSE", "0"),
        ]);
        let processes = [resolver, server].map(|mut command| {
            let log = std::fs::File::options().create(true).append(true).open(at("pebble.log")).unwrap();
            command.stdout(log.try_clone().unwrap()).stderr(log);
            ProcessGroup::start(&mut command).unwrap()
        });
        let pebble = Pebble {
            _processes: processes.into(),
            folder,
            listen,
            management,
            http,
            tls,
            resolver: commands,
            _dns: dns,
        };
        for port in [&pebble.listen, &pebble.management] {
            wait(&pebble.path("pebble.log"), "Pebble listens", || {
                TcpStream::connect(("127.0.0.1", port.number)).is_ok()
            });
        }
        Some(pebble)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns an `acme_issuer` for it; `uri` is where its directory is asked for.
    fn issuer(&self, name: &str, uri_port: u16, more: &str) -> String {
        format!(
            "acme_issuer {name} {{
                 uri https://localhost:{uri_port}/dir; contact admin@example.com; accept_terms_of_service;
                 ssl_trusted_certificate {}; {more}
             }}",
            self.path("ca.pem").display()
        )
    }

    /// Returns the authority that its certificates lead to, with the intermediate one.
    fn authorities(&self) -> Vec<u8> {
        [self.get(&self.management, "/roots/0"), self.get(&self.management, "/intermediates/0")].concat()
    }

    /// Returns its answer, head and body.
    fn get(&self, port: &Port, path: &str) -> Vec<u8> {
        let mut stream = tls_stream(port.number, "localhost", &self.ca()).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost:{}\r\n\r\n", port.number).unwrap();
        let mut text = Vec::new();
        // It ends the connection as HTTP/1.0 does, with or without a last word.
        let _ = stream.read_to_end(&mut text);
        text
    }

    fn ca(&self) -> Vec<u8> {
        std::fs::read(self.path("ca.pem")).unwrap()
    }
}

/// Writes an authority and the certificate of Pebble's own addresses.
fn write_certificates(folder: &Path) {
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    put("ca.pem", &authority.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(authority, key);
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    put("pebble.pem", &(certificate.pem() + &key.serialize_pem()));
}

fn wait(log: &Path, what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while !is() {
        if Instant::now() > deadline {
            panic!("not in time: {what}\n{}", std::fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(10 * GLANCE);
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands as a client that trusts these authorities.
fn tls_stream(port: u16, name: &str, authorities: &[u8]) -> Result<Tls, String> {
    let config = tls::client_config(Some(authorities), None).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Returns the certificate that a server shows for this name, if it leads to these authorities.
fn certificate_at(port: u16, name: &str, authorities: &[u8]) -> Result<CertificateDer<'static>, String> {
    let stream = tls_stream(port, name, authorities)?;
    Ok(stream.conn.peer_certificates().unwrap()[0].clone().into_owned())
}

/// A server of this configuration, which a test may end and start again.
struct Site {
    process: Option<ProcessGroup>,
    folder: TempDir,
}

impl Site {
    fn start(http: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        // The worker's user must come through.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["conf", "logs", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let user = if is_root { "user nobody nogroup;" } else { "" };
        let http = http.replace("{folder}", &folder.path().display().to_string());
        let conf = format!(
            "{user} worker_processes 2; daemon off; error_log logs/error.log info;
             events {{}} http {{ access_log off; {http} }}"
        );
        std::fs::write(folder.path().join("conf/nginx.conf"), conf).unwrap();
        let mut site = Site { process: None, folder };
        site.run();
        site
    }

    fn run(&mut self) {
        let mut process = command(self.folder.path(), &[]);
        let log = std::fs::File::create(self.path("logs/stderr")).unwrap();
        self.process = Some(ProcessGroup::start(process.stderr(log)).unwrap());
        let socket = self.path("run/pointsman.sock");
        self.until("it serves", || {
            UnixStream::connect(&socket).is_ok() && say(self.folder.path(), &["status"]).code == 0
        });
    }

    fn stop(&mut self) {
        self.process = None;
        let _ = std::fs::remove_file(self.path("run/pointsman.sock"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        let text = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text("logs/stderr") + &text("logs/error.log")
    }

    fn until(&self, what: &str, is: impl FnMut() -> bool) {
        let log = self.path("logs/error.log");
        wait(if log.exists() { &log } else { Path::new("/dev/null") }, what, is);
    }
}

/// Returns a server block with TLS for a name, whose certificate an issuer has to bring.
fn server(port: &Port, name: &str, issuer: &str) -> String {
    format!(
        "server {{
             listen 127.0.0.1:{} ssl; server_name {name}; acme_certificate {issuer};
             ssl_certificate $acme_certificate; ssl_certificate_key $acme_certificate_key;
             return 200 ok;
         }}",
        port.number
    )
}

#[test]
fn certificates_are_issued_renewed_and_found_after_a_restart() {
    let test = "certificates_are_issued_renewed_and_found_after_a_restart";
    let Some(pebble) = Pebble::start(test, 40, "") else { return };
    let at = pebble.listen.number;
    let mut site = Site::start(&format!(
        "{} {}
         {} {}
         server {{ listen 127.0.0.1:{}; return 404; }}",
        pebble.issuer("one", at, ""),
        pebble.issuer("two", at, "challenge tls-alpn-01;"),
        server(&pebble.tls, "a.example", "one"),
        server(&pebble.tls, ".b.example", "two key=ecdsa:384"),
        pebble.http.number,
    ));
    let authorities = pebble.authorities();
    let shown = |name: &str| certificate_at(pebble.tls.number, name, &authorities);
    for name in ["a.example", "b.example", "www.b.example"] {
        site.until(name, || shown(name).is_ok());
    }
    // Where they are, and who may read them.
    for issuer in ["acme_one", "acme_two"] {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&site.path(issuer)), 0o700);
        let entries = std::fs::read_dir(site.path(issuer)).unwrap().map(|entry| entry.unwrap());
        let files: Vec<_> = entries.filter(|entry| entry.file_type().unwrap().is_file()).collect();
        assert!(files.iter().all(|file| mode(&file.path()) == 0o600));
        let named =
            |end: &str| files.iter().filter(|file| file.file_name().to_string_lossy().ends_with(end)).count();
        assert_eq!((named(".pem"), named(".json"), named(".key")), (1, 1, 0), "{files:?}");
    }
    let status = say(site.folder.path(), &["status", "--json"]).json();
    let known: Vec<&str> =
        status["certificates"].as_array().unwrap().iter().map(|it| it["file"].as_str().unwrap()).collect();
    assert!(known.len() == 2 && known.iter().any(|file| file.contains("acme_one/a.example-")), "{known:?}");
    // Half of its lifetime later there is another one, without a reload.
    let first = shown("a.example").unwrap();
    site.until("a.example is renewed", || shown("a.example").is_ok_and(|now| now != first));
    let renewed = shown("a.example").unwrap();
    site.stop();
    drop(pebble._processes);
    site.run();
    let again = certificate_at(pebble.tls.number, "a.example", &authorities);
    assert_eq!(again, Ok(renewed), "{}", site.log());
}

#[test]
fn revoked_certificate_is_replaced_and_not_found_again() {
    let test = "revoked_certificate_is_replaced_and_not_found_again";
    let Some(pebble) = Pebble::start(test, 3600, "") else { return };
    let at = pebble.listen.number;
    let site = Site::start(&format!(
        "{} {} {}
         server {{ listen 127.0.0.1:{}; return 404; }}",
        pebble.issuer("one", at, ""),
        server(&pebble.tls, "a.example", "one"),
        server(&pebble.tls, "b.example", "one"),
        pebble.http.number,
    ));
    let authorities = pebble.authorities();
    let shown = |name: &str| certificate_at(pebble.tls.number, name, &authorities);
    for name in ["a.example", "b.example"] {
        site.until(name, || shown(name).is_ok());
    }
    let folder = site.folder.path();
    let listed = || {
        let all = say(folder, &["certificate", "--json"]).json()["certificates"].clone();
        all.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    site.until("both are listed", || listed().len() == 2);
    let name = listed().into_iter().find(|name| name.starts_with("a.example-")).unwrap();
    let status_of = |serial: &str| {
        let answer = pebble.get(&pebble.management, &format!("/cert-status-by-serial/{serial}"));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (first, other) = (shown("a.example").unwrap(), shown("b.example").unwrap());
    let (serial, key) = facts_of(pebble.folder.path(), &first);
    assert!(status_of(&serial).contains("Valid"), "{}", status_of(&serial));
    let revoked = say(folder, &["certificate", "revoke", "a.example", "--reason", "key-compromise"]);
    assert_eq!(revoked.done(), format!("{name}: revoked by one, for a.example\n"));
    let status = status_of(&serial);
    assert!(status.contains("Revoked") && status.contains("\"Reason\": 1"), "{status}");
    site.until("another one is in use", || shown("a.example").is_ok_and(|now| now != first));
    assert_eq!(shown("b.example").unwrap(), other);
    // Its key is another one, too.
    assert_ne!(facts_of(pebble.folder.path(), &shown("a.example").unwrap()).1, key);
    let unknown = say(folder, &["certificate", "revoke", "c.example"]);
    assert!(unknown.code != 0 && unknown.err.contains(&name), "{}", unknown.err);
}

/// Returns a certificate's serial number in hexadecimal digits, as Pebble writes it, and its key.
fn facts_of(folder: &Path, certificate: &CertificateDer<'_>) -> (String, String) {
    let file = folder.join("shown.der");
    std::fs::write(&file, certificate).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-inform", "der", "-noout", "-serial", "-pubkey", "-in"]).arg(&file);
    let output = openssl.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (serial, key) = text.strip_prefix("serial=").and_then(|text| text.split_once('\n')).unwrap();
    (serial.to_lowercase().trim_start_matches('0').to_owned(), key.to_owned())
}

#[test]
fn account_is_bound_to_the_one_that_the_issuer_knows() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let bound = format!(
        r#", "externalAccountBindingRequired": true, "externalAccountMACKeys": {{"kid-1": "{key}"}}"#
    );
    let Some(pebble) = Pebble::start("account_is_bound_to_the_one_that_the_issuer_knows", 3600, &bound)
    else {
        return;
    };
    let at = pebble.listen.number;
    let site = Site::start(&format!(
        "{} {} {} {}
         server {{ listen 127.0.0.1:{}; return 404; }}",
        pebble.issuer("bound", at, &format!("external_account_key kid-1 data:{key}; state_path off;")),
        pebble.issuer("unbound", at, ""),
        server(&pebble.tls, "a.example", "bound"),
        server(&pebble.tls, "b.example", "unbound"),
        pebble.http.number,
    ));
    let authorities = pebble.authorities();
    site.until("a.example", || certificate_at(pebble.tls.number, "a.example", &authorities).is_ok());
    site.until("b.example is refused", || {
        site.log().contains("acme issuer \"unbound\": no certificate for b.example: it says \"API error: ")
    });
    assert!(certificate_at(pebble.tls.number, "b.example", &authorities).is_err());
    site.until("the handshake is explained", || {
        let log = site.log();
        log.lines().any(|line| {
            line.contains("[error]")
                && line.contains("ACME has not issued it yet")
                && line.contains("b.example")
        })
    });
    assert!(!site.path("acme_bound").exists());
}

/// Returns a server in front of Pebble that has had enough until there is a file `conf/calm`.
fn front(pebble: &Pebble, port: &Port) -> String {
    format!(
        "server {{
             listen 127.0.0.1:{} ssl; server_name localhost;
             ssl_certificate {pem}; ssl_certificate_key {pem};
             location / {{
                 add_header Retry-After 4 always;
                 if (!-f {{folder}}/conf/calm) {{ return 429 limited; }}
                 proxy_set_header Host $http_host;
                 proxy_pass https://127.0.0.1:{};
             }}
         }}",
        port.number,
        pebble.listen.number,
        pem = pebble.path("pebble.pem").display(),
    )
}

const LIMITED: &str = "no certificate for a.example: it answers with the status 429; next attempt in 4s";

#[test]
fn issuer_is_left_alone_for_as_long_as_it_asks() {
    let Some(pebble) = Pebble::start("issuer_is_left_alone_for_as_long_as_it_asks", 3600, "") else { return };
    let port = reserve().unwrap();
    let site = Site::start(&format!(
        "{} {} {} server {{ listen 127.0.0.1:{}; return 404; }}",
        pebble.issuer("one", port.number, ""),
        server(&pebble.tls, "a.example", "one"),
        front(&pebble, &port),
        pebble.http.number,
    ));
    site.until("it is limited", || site.log().contains(LIMITED));
    std::fs::write(site.path("conf/calm"), "").unwrap();
    let authorities = pebble.authorities();
    site.until("a.example", || certificate_at(pebble.tls.number, "a.example", &authorities).is_ok());
    let attempts = site.log().matches("ordering a certificate for a.example").count();
    assert!((2..=3).contains(&attempts), "{}", site.log());
}

#[test]
fn one_process_orders_and_another_proves_and_serves() {
    let Some(pebble) = Pebble::start("one_process_orders_and_another_proves_and_serves", 3600, "") else {
        return;
    };
    let (state, elsewhere, port) = (tempfile::tempdir().unwrap(), reserve().unwrap(), reserve().unwrap());
    // Made by the one that comes first, for the worker's user.
    std::fs::set_permissions(state.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let place = format!("state_path {}/acme;", state.path().display());
    let issuer = pebble.issuer("one", port.number, &place);
    let mut first = Site::start(&format!(
        "{issuer} {} {}",
        server(&elsewhere, "a.example", "one"),
        front(&pebble, &port)
    ));
    first.until("it orders", || first.log().contains(LIMITED));
    // Pebble asks the second one.
    let second = Site::start(&format!(
        "{issuer} {} server {{ listen 127.0.0.1:{}; return 404; }}",
        server(&pebble.tls, "a.example", "one"),
        pebble.http.number
    ));
    second.until("it follows", || second.log().contains("another process orders its certificates"));
    std::fs::write(first.path("conf/calm"), "").unwrap();
    let authorities = pebble.authorities();
    for port in [&elsewhere, &pebble.tls] {
        first.until("a.example", || certificate_at(port.number, "a.example", &authorities).is_ok());
    }
    let served = |port: &Port| certificate_at(port.number, "a.example", &authorities).unwrap();
    assert_eq!(served(&elsewhere), served(&pebble.tls), "{}", second.log());
    assert!(!second.log().contains("ordering a certificate"));
    first.stop();
    assert!(served(&pebble.tls).len() > 100);
}

/// Sets the records of Pebble's resolver, whose port is the first argument.
const HOOK: &str = r#"#!/bin/bash
case "$2" in present) path=/set-txt ;; cleanup) path=/clear-txt ;; *) exit 2 ;; esac
body="{\"host\": \"$3.\", \"value\": \"$4\"}"
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 3
printf 'POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$path" "${#body}" "$body" >&3
read -r line <&3
case "$line" in *" 200 "*) exit 0 ;; esac
echo "the resolver says $line" >&2
exit 4
"#;

#[test]
fn wildcard_is_proven_by_a_record_that_a_program_sets() {
    let Some(pebble) = Pebble::start("wildcard_is_proven_by_a_record_that_a_program_sets", 3600, "") else {
        return;
    };
    let hook = pebble.path("hook");
    std::fs::write(&hook, HOOK).unwrap();
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
    let hook = format!("challenge dns-01; dns_hook {} {};", hook.display(), pebble.resolver.number);
    let refused = "challenge dns-01; dns_hook /bin/sh -c \"echo no such zone >&2; exit 5\";";
    let site = Site::start(&format!(
        "{} {} {} {}",
        pebble.issuer("one", pebble.listen.number, &hook),
        pebble.issuer("two", pebble.listen.number, refused),
        server(&pebble.tls, "a.example *.a.example", "one"),
        server(&pebble.tls, "b.example", "two"),
    ));
    let authorities = pebble.authorities();
    for name in ["a.example", "any.a.example"] {
        site.until(name, || certificate_at(pebble.tls.number, name, &authorities).is_ok());
    }
    let said = "no certificate for b.example: the dns_hook \"/bin/sh\" failed to present the record: exit status: 5: no such zone";
    site.until("b.example is refused", || site.log().contains(said));
}

#[test]
fn renewal_is_due_when_the_issuer_suggests_it() {
    let Some(pebble) = Pebble::start("renewal_is_due_when_the_issuer_suggests_it", 200, "") else { return };
    let port = reserve().unwrap();
    // Debian's Pebble suggests nothing: an address in front of it does, always the past.
    let answer = String::from_utf8(pebble.get(&pebble.listen, "/dir")).unwrap();
    let mut directory: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    directory["renewalInfo"] = format!("https://localhost:{}/ari", port.number).into();
    std::fs::write(pebble.path("dir"), directory.to_string()).unwrap();
    let site = Site::start(&format!(
        "{} {} server {{ listen 127.0.0.1:{}; return 404; }}
         server {{
             listen 127.0.0.1:{} ssl; server_name localhost; root {};
             ssl_certificate {pem}; ssl_certificate_key {pem};
             location /ari/ {{
                 add_header Retry-After 3600;
                 default_type application/json;
                 return 200 '{{\"suggestedWindow\": {{\"start\": \"2020-01-01T00:00:00Z\", \"end\": \"2020-01-02T00:00:00Z\"}}}}';
             }}
         }}",
        pebble.issuer("one", port.number, ""),
        server(&pebble.tls, "a.example", "one"),
        pebble.http.number,
        port.number,
        pebble.folder.path().display(),
        pem = pebble.path("pebble.pem").display(),
    ));
    let authorities = pebble.authorities();
    let shown = || certificate_at(pebble.tls.number, "a.example", &authorities);
    site.until("a.example", || shown().is_ok());
    let (first, began) = (shown().unwrap(), Instant::now());
    // Pebble does not know what the order says of the certificate that is replaced: the next attempt leaves it out.
    site.until("a.example is renewed", || shown().is_ok_and(|now| now != first));
    assert!(began.elapsed() < Duration::from_secs(90), "{}", site.log());
    let orders = site.log().matches("ordering a certificate for a.example").count();
    assert!((2..=4).contains(&orders), "{}", site.log());
}

#[test]
fn reload_orders_what_is_new_and_nothing_else() {
    let Some(pebble) = Pebble::start("reload_orders_what_is_new_and_nothing_else", 3600, "") else { return };
    let issuer = pebble.issuer("one", pebble.listen.number, "");
    let plain = format!("server {{ listen 127.0.0.1:{}; return 404; }}", pebble.http.number);
    let site = Site::start(&format!("{issuer} {plain} {}", server(&pebble.tls, "a.example", "one")));
    let authorities = pebble.authorities();
    let shown = |name: &str| certificate_at(pebble.tls.number, name, &authorities);
    site.until("a.example", || shown("a.example").is_ok());
    let first = shown("a.example").unwrap();
    let conf = site.path("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let (before, _) = text.rsplit_once('}').unwrap();
    std::fs::write(&conf, format!("{before} {} }}", server(&pebble.tls, "b.example", "one"))).unwrap();
    say(site.folder.path(), &["reload"]).done();
    // Over the reload as well as after it.
    assert_eq!(shown("a.example").as_ref(), Ok(&first), "{}", site.log());
    site.until("b.example", || shown("b.example").is_ok());
    assert_eq!(shown("a.example"), Ok(first));
    let orders = |name: &str| site.log().matches(&format!("ordering a certificate for {name}")).count();
    // A second try for the new one is no fault: the first may be asked for before its server listens.
    assert_eq!(orders("a.example"), 1, "{}", site.log());
    assert!(orders("b.example") >= 1, "{}", site.log());
}
