//! Stapled answers, of a real OCSP responder: that of openssl.

use super::*;
use testkit::ports::{Port, reserve};

/// An authority made by openssl, which answers about its certificates.
struct Authority {
    folder: TempDir,
    port: Port,
    responder: Option<ProcessGroup>,
}

impl Authority {
    fn new() -> Authority {
        let authority =
            Authority { folder: tempfile::tempdir().unwrap(), port: reserve().unwrap(), responder: None };
        let conf = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\n\
             commonName=supplied\n[leaf]\nsubjectAltName=DNS:a.test\n\
             authorityInfoAccess=OCSP;URI:http://127.0.0.1:{}\n",
            authority.port.number
        );
        authority.write("conf", &conf);
        authority.write("index", "");
        authority.write("serial", "01");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
        authority.openssl(&format!("req -x509 {key} ca.key -out ca.pem -days 30 -subj /CN=ca"));
        authority.openssl(&format!("req -new {key} leaf.key -out leaf.csr -subj /CN=a.test"));
        authority.openssl(
            "ca -batch -notext -config conf -extensions leaf -in leaf.csr -out leaf.pem -cert ca.pem -keyfile ca.key \
             -days 30",
        );
        authority
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
    }

    fn openssl(&self, args: &str) {
        let mut command = Command::new("openssl");
        let output =
            output_of(command.args(args.split(' ')).current_dir(self.folder.path()), PATIENCE).unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts its responder, with what its database says now.
    fn answer(&mut self) {
        self.responder = None;
        let mut command = Command::new("openssl");
        let port = self.port.number.to_string();
        command.args(["ocsp", "-port", &port, "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem"]);
        command.args(["-rkey", "ca.key", "-ndays", "1"]).current_dir(self.folder.path());
        let log = std::fs::File::create(self.at("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.responder = Some(ProcessGroup::start(&mut command).unwrap());
        // A connection that asks nothing would keep it waiting.
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(self.at("log"))
            .unwrap()
            .contains("waiting for OCSP client connections")
        {
            assert!(Instant::now() < deadline, "the responder does not listen");
            std::thread::sleep(GLANCE);
        }
    }
}

/// Returns what a handshake at a port says about the certificate's status.
fn status(port: &Port) -> String {
    let mut command = Command::new("openssl");
    let address = format!("127.0.0.1:{}", port.number);
    command.args(["s_client", "-connect", &address, "-servername", "a.test", "-status"]).stdin(Stdio::null());
    let output = output_of(&mut command, PATIENCE).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("CONNECTED"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn is_stapled(port: &Port) -> bool {
    let text = status(port);
    let is_good = text.contains("OCSP Response Status: successful") && text.contains("Cert Status: good");
    assert!(is_good || text.contains("OCSP response: no response sent"), "{text}");
    is_good
}

#[test]
fn stapled_answer_of_a_responder_is_sent_and_kept_over_a_reload() {
    let mut authority = Authority::new();
    authority.answer();
    let ports: [Port; 2] = std::array::from_fn(|_| reserve().unwrap());
    let at = |name: &str| authority.at(name).display().to_string();
    let server = Server::start(
        "",
        &format!(
            "error_log {{folder}}/logs/error.log;
             ssl_certificate {leaf}; ssl_certificate_key {key}; ssl_stapling on;
             server {{ listen 127.0.0.1:{} ssl; ssl_trusted_certificate {ca}; ssl_stapling_verify on; return 200 a; }}
             server {{ listen 127.0.0.1:{} ssl; ssl_stapling off; return 200 b; }}",
            ports[0].number,
            ports[1].number,
            leaf = at("leaf.pem"),
            key = at("leaf.key"),
            ca = at("ca.pem"),
        ),
    );
    server.until("an answer is stapled", || is_stapled(&ports[0]));
    assert!(!is_stapled(&ports[1]), "where it is off, none is");
    // Without the responder, what it has said is still known.
    authority.responder = None;
    server.say(&["reload"]).done();
    assert!(is_stapled(&ports[0]));
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    assert!(!log.contains("certificate status"), "{log}");
}

#[test]
fn stapled_answers_are_none_that_say_anything_but_good() {
    let mut authority = Authority::new();
    authority.openssl("ca -config conf -revoke leaf.pem -cert ca.pem -keyfile ca.key");
    authority.answer();
    let port = reserve().unwrap();
    let at = |name: &str| authority.at(name).display().to_string();
    let conf = |more: &str| {
        format!(
            "error_log {{folder}}/logs/error.log;
             server {{
                 listen 127.0.0.1:{} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_stapling on; {more} return 200 a;
             }}",
            port.number,
            at("leaf.pem"),
            at("leaf.key"),
        )
    };
    let server = Server::start("", &conf(&format!("ssl_trusted_certificate {};", at("ca.pem"))));
    let log = || std::fs::read_to_string(server.path("logs/error.log")).unwrap();
    server.until("the answer is judged", || {
        log().contains("certificate status \"revoked\" in the OCSP response while requesting certificate status, responder: http://127.0.0.1")
    });
    assert!(!is_stapled(&port));
    drop(server);
    // What cannot be asked is said when the configuration is loaded.
    for (more, words) in [
        ("", "\"ssl_stapling\" ignored, issuer certificate not found for certificate"),
        (
            &*format!("ssl_trusted_certificate {}; ssl_stapling_responder https://ocsp.test/;", at("ca.pem")),
            "\"ssl_stapling\" ignored, invalid URL prefix in OCSP responder \"https://ocsp.test/\"",
        ),
    ] {
        let server = Server::start("", &conf(more));
        let said = server.say(&["-t"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains(words), "{}", said.err);
        assert!(!is_stapled(&port));
    }
}
