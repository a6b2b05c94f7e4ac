//! Certificates for hosts that only handshakes name.

use super::*;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Returns the server at which such handshakes come, what allows them, and the plain server of the challenge.
fn site(pebble: &Pebble, limit: u32, allowed: &str, more: &str) -> Site {
    let own = pebble.path("pebble.pem");
    Site::start(&format!(
        "{} {more}
         server {{
             listen 127.0.0.1:{} ssl; acme_certificate one {allowed};
             ssl_certificate $acme_certificate; ssl_certificate_key $acme_certificate_key;
             ssl_certificate {own}; ssl_certificate_key {own};
             return 200 ok;
         }}
         server {{ listen 127.0.0.1:{}; return 404; }}",
        pebble.issuer("one", pebble.listen.number, &format!("on_demand_limit {limit};")),
        pebble.tls.number,
        pebble.http.number,
        own = own.display(),
    ))
}

/// Returns true if a handshake that names this host is shown the certificate that the server has for all others.
fn is_default(pebble: &Pebble, name: &str) -> bool {
    let config = tls::client_config(None, None).unwrap();
    let server_name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(config), server_name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", pebble.tls.number)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    let own = std::fs::read(pebble.path("pebble.pem")).unwrap();
    let own = CertificateDer::from_pem_slice(&own).unwrap();
    stream.conn.peer_certificates().unwrap()[0] == own
}

fn orders(site: &Site, name: &str) -> usize {
    site.log().matches(&format!("ordering a certificate for {name}")).count()
}

#[test]
fn keys_of_a_switch_have_certificates_once_handshakes_name_them() {
    let test = "keys_of_a_switch_have_certificates_once_handshakes_name_them";
    let Some(pebble) = Pebble::start(test, 3600, "") else { return };
    let switch = "upstream blue { server 127.0.0.1:1; } switch $host $live { default blue; targets blue; }";
    let mut site = site(&pebble, 2, "keys=$live", switch);
    for key in
        ["shop.example.com", "*.wild.example.com", "two.example.com", "three.example.com", "a.internal"]
    {
        say(site.folder.path(), &["switch", key, "blue"]).done();
    }
    // No key, a key that is a pattern, a name that no public issuer knows.
    for name in ["other.example.com", "any.wild.example.com", "a.internal"] {
        assert!(is_default(&pebble, name), "{name}: {}", site.log());
        assert_eq!(orders(&site, name), 0, "{}", site.log());
    }
    let authorities = pebble.authorities();
    let shown = |name: &str| certificate_at(pebble.tls.number, name, &authorities);
    // All wait for one order.
    let together = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| shown("shop.example.com"))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(
        together[0].is_ok() && together.iter().all(|one| *one == together[0]),
        "{together:?} {}",
        site.log()
    );
    assert_eq!(orders(&site, "shop.example.com"), 1, "{}", site.log());
    assert!(shown("two.example.com").is_ok(), "{}", site.log());
    // These were all orders of this hour.
    assert!(is_default(&pebble, "three.example.com"));
    let limited =
        "no certificate for three.example.com: 2 orders on demand in an hour are its on_demand_limit";
    assert_eq!(
        (orders(&site, "three.example.com"), site.log().matches(limited).count()),
        (0, 1),
        "{}",
        site.log()
    );
    assert!(is_default(&pebble, "three.example.com"));
    assert_eq!(site.log().matches(limited).count(), 1, "{}", site.log());
    site.stop();
    // What is for another name than its file is not used.
    let files: Vec<PathBuf> =
        std::fs::read_dir(site.path("acme_one")).unwrap().map(|it| it.unwrap().path()).collect();
    let file = |name: &str| {
        let of = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
        files.iter().find(of).unwrap().clone()
    };
    std::fs::copy(file("shop.example.com"), file("two.example.com")).unwrap();
    site.run();
    assert_eq!(shown("shop.example.com"), together[0].clone(), "{}", site.log());
    assert_eq!(orders(&site, "shop.example.com"), 1, "{}", site.log());
    site.until("the other file is refused", || {
        site.log().contains("cannot be used: it is not for two.example.com")
    });
    assert!(shown("two.example.com").is_ok(), "{}", site.log());
}

#[test]
fn server_is_asked_which_hosts_may_have_certificates() {
    let Some(pebble) = Pebble::start("server_is_asked_which_hosts_may_have_certificates", 3600, "") else {
        return;
    };
    let port = reserve().unwrap();
    let asked = format!(
        "log_format asked 'asked $arg_domain';
         server {{
             listen 127.0.0.1:{};
             location /may {{
                 access_log {{folder}}/logs/asked.log asked;
                 if ($arg_domain = shop.example.com) {{ return 204; }}
                 return 403;
             }}
         }}",
        port.number
    );
    let site = site(&pebble, 20, &format!("ask=http://127.0.0.1:{}/may?tls=1", port.number), &asked);
    let authorities = pebble.authorities();
    let shown = |name: &str| certificate_at(pebble.tls.number, name, &authorities);
    assert!(shown("shop.example.com").is_ok(), "{}", site.log());
    for name in ["evil.example.com", "evil.example.com", "printer.local"] {
        assert!(is_default(&pebble, name), "{name}");
    }
    let denied = format!(
        "no certificate for evil.example.com: http://127.0.0.1:{}/may?tls=1: it does not",
        port.number
    );
    assert!(site.log().contains(&denied), "{}", site.log());
    // The second handshake asks nothing: the answer is a minute old at most.
    let asked = || std::fs::read_to_string(site.path("logs/asked.log")).unwrap_or_default();
    site.until("all are logged", || asked().lines().count() >= 2);
    assert_eq!(asked(), "asked shop.example.com\nasked evil.example.com\n");
    assert_eq!(orders(&site, "evil.example.com"), 0);
}

#[test]
fn no_certificate_is_ordered_while_the_server_that_allows_them_is_silent() {
    let test = "no_certificate_is_ordered_while_the_server_that_allows_them_is_silent";
    let Some(pebble) = Pebble::start(test, 3600, "") else { return };
    // It takes the question, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/may", silent.local_addr().unwrap());
    let site = site(&pebble, 20, &format!("ask={address}"), "");
    assert!(is_default(&pebble, "shop.example.com"));
    let words = format!("no certificate for shop.example.com: {address}: it does not answer in time");
    assert!(site.log().contains(&words), "{}", site.log());
    assert_eq!(orders(&site, "shop.example.com"), 0);
}
