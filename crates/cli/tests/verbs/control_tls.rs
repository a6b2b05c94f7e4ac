//! The control API over TLS: who the server is, who the client is, and what is never sent in clear.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use sha2::{Digest, Sha256};

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes an authority, a certificate of the server and those of two clients; returns the file of tokens.
pub(super) fn write_certificates(folder: &Path) -> String {
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let mut authority = params("authority", &[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    put("ca.pem", &authority.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(authority, key);
    let mut hashes = Vec::new();
    for (name, names, usage) in [
        ("server", &["localhost", "127.0.0.1"][..], ExtendedKeyUsagePurpose::ServerAuth),
        ("anna", &[], ExtendedKeyUsagePurpose::ClientAuth),
        ("eve", &[], ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = params(name, names);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        put(&format!("{name}.pem"), &(certificate.pem() + &key.serialize_pem()));
        hashes.push(hex(&Sha256::digest(certificate.der())));
    }
    format!(
        "anna:operator:certificate:{}\nviewers:viewer:subject:CN=eve\nbot:operator:{}\n",
        hashes[1],
        hex(&Sha256::digest("secret"))
    )
}

#[test]
fn orders_over_tls_are_given_by_certificate_or_token() {
    let files = tempfile::tempdir().unwrap();
    let tokens = write_certificates(files.path());
    std::fs::write(files.path().join("tokens"), tokens).unwrap();
    let port = testkit::ports::reserve().unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    let server = Server::start(
        "",
        &format!(
            "control_tokens {};
             server {{
                 listen 127.0.0.1:{} ssl; server_name localhost;
                 ssl_certificate {server}; ssl_certificate_key {server};
                 ssl_verify_client optional; ssl_client_certificate {};
                 location /control/ {{ control_api; }}
             }}",
            at("tokens"),
            port.number,
            at("ca.pem"),
            server = at("server.pem"),
        ),
    );
    let say = |host: &str, token: Option<&str>, words: &[&str]| {
        let address = format!("https://{host}:{}/control", port.number);
        let mut words = words.to_vec();
        words.extend(["--control", &address]);
        let mut command = command(server.folder.path(), &words);
        if let Some(token) = token {
            command.env("POINTSMAN_TOKEN", token);
        }
        said(output_of(&mut command, PATIENCE).unwrap())
    };
    let switch = ["switch", "a.example", "green", "--force", "--json"];
    let (ca, anna, eve) = (at("ca.pem"), at("anna.pem"), at("eve.pem"));
    let by = |certificate: &str, more: &[&str]| {
        say("127.0.0.1", None, &[&switch[..], &["--cacert", &ca, "--cert", certificate], more].concat())
    };
    let done = by(&anna, &["--key", &anna]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.json()["actor"], "anna");
    let refused = by(&eve, &[]);
    assert!(
        refused.err.contains("viewers has read-only access") || refused.out.contains("forbidden"),
        "{}{}",
        refused.out,
        refused.err
    );
    let done = say("localhost", Some("secret"), &[&switch[..], &["--cacert", &ca]].concat());
    assert_eq!(done.json()["actor"], "bot");
    let none = say("localhost", None, &["list", "--cacert", &ca]);
    assert!(none.err.contains("no token was sent"), "{}", none.err);
    let stranger = say("localhost", Some("secret"), &["list", "--cacert", &anna]);
    assert_eq!(stranger.code, 3, "{}", stranger.err);
    assert!(stranger.err.contains("--cacert"), "{}", stranger.err);
    let unusable = say("localhost", None, &["list", "--cacert", &ca, "--key", &anna]);
    assert!(unusable.err.contains("belongs to no certificate"), "{}", unusable.err);
}

#[test]
fn token_leaves_the_machine_in_clear_only_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let say = |words: &[&str]| {
        let mut command = command(folder.path(), words);
        said(output_of(command.env("POINTSMAN_TOKEN", "secret"), PATIENCE).unwrap())
    };
    // No name below .invalid can be looked up (RFC 6761, section 6.4).
    let remote = ["list", "--control", "http://gateway.invalid:8090/control"];
    let refused = say(&remote);
    assert!(refused.err.contains("the token would be sent in clear to http://gateway.invalid:8090/control"));
    assert!(refused.err.contains("--insecure-token"), "{}", refused.err);
    let sent = say(&[&remote[..], &["--insecure-token"]].concat());
    assert!(sent.err.contains("cannot reach http://gateway.invalid"), "{}", sent.err);
    let local = say(&["list", "--control", "http://127.0.0.1:1/control"]);
    assert!(local.err.contains("cannot reach http://127.0.0.1:1"), "{}", local.err);
}
