//! What a client is known by when its key is split.

use super::*;

const CLIENTS: usize = 1000;

/// Returns which of the clients are on the green side: each sends one request through the balancer behind this socket, and
/// is known by this field.
fn on_green(server: &Server, socket: &str, field: impl Fn(usize) -> String) -> Vec<bool> {
    let mut stream = UnixStream::connect(server.path(socket)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sent = stream.try_clone().unwrap();
    let requests: String = (0..CLIENTS)
        .map(|client| {
            let close = if client + 1 == CLIENTS { "Connection: close\r\n" } else { "" };
            format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{}\r\n{close}\r\n", field(client))
        })
        .collect();
    let sender = std::thread::spawn(move || sent.write_all(requests.as_bytes()));
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    sender.join().unwrap().unwrap();
    let sides: Vec<bool> =
        received.lines().filter_map(|line| line.strip_prefix("side ")).map(|side| side == "green").collect();
    assert_eq!(sides.len(), CLIENTS, "{received}");
    sides
}

/// Three standard deviations around the expected number.
fn assert_share(on_green: &[bool], percent: f64) {
    let (count, p) = (on_green.iter().filter(|green| **green).count() as f64, percent / 100.0);
    let expected = p * CLIENTS as f64;
    let slack = 3.0 * (expected * (1.0 - p)).sqrt();
    assert!((count - expected).abs() <= slack, "{count} of {expected} ± {slack}");
}

fn split(server: &Server, green: u32) {
    let (green, blue) = (format!("green={green}"), format!("blue={}", 100 - green));
    server.say(&["split", "shop.example", &green, &blue]).done();
}

#[test]
fn promise_16_clients_behind_a_balancer_are_split_by_their_own_addresses_and_stay() {
    let server = Server::start(
        "",
        "server {
             listen unix:{folder}/balancer; keepalive_requests 10000;
             set_real_ip_from unix:; real_ip_header X-Forwarded-For;
             location / { return 200 \"side $live\\n\"; }
         }
         server {
             listen unix:{folder}/unaware; keepalive_requests 10000;
             location / { return 200 \"side $live\\n\"; }
         }",
    );
    let field = |client: usize| {
        // What the client claims comes before what the balancer adds.
        format!("X-Forwarded-For: 192.0.2.{}, 198.51.{}.{}", client % 7, client / 250, client % 250)
    };
    split(&server, 50);
    let half = on_green(&server, "balancer", field);
    assert_share(&half, 50.0);
    assert_eq!(on_green(&server, "balancer", field), half, "the same clients come again");
    let mut before = half;
    for percent in [60, 90, 100] {
        split(&server, percent);
        let now = on_green(&server, "balancer", field);
        assert_share(&now, f64::from(percent));
        assert!(before.iter().zip(&now).all(|(was, is)| *is || !*was), "a client went back at {percent} %");
        before = now;
    }
    // Without the balancer's word all of them are one client.
    split(&server, 50);
    let unaware = on_green(&server, "unaware", field);
    assert!(unaware.iter().all(|green| *green == unaware[0]));
}

#[test]
fn promise_16_clients_with_a_cookie_of_the_switch_are_split_and_stay() {
    let server = Server::start(
        "sticky cookie=side issue salt=key;",
        "server {
             listen unix:{folder}/cookies; keepalive_requests 10000;
             location / { return 200 \"side $live\\n\"; }
         }",
    );
    split(&server, 50);
    let half = on_green(&server, "cookies", |client| format!("Cookie: a=1; side={client}"));
    assert_share(&half, 50.0);
    // Each of those without a cookie is given one.
    let given = on_green(&server, "cookies", |_| "Accept: */*".to_owned());
    // They are random: nine standard deviations.
    assert!((350..=650).contains(&given.iter().filter(|green| **green).count()));
    split(&server, 70);
    let now = on_green(&server, "cookies", |client| format!("Cookie: a=1; side={client}"));
    assert!(half.iter().zip(&now).all(|(was, is)| *is || !*was), "a client went back");
}
