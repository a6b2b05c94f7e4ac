//! A list of many keys over a location: as long as its `client_max_body_size` lets it be.

use super::*;

const KEYS: usize = 30_000;

#[test]
fn promise_18_a_long_list_is_one_commit_in_a_location_too() {
    let [wide, narrow] = [(), ()].map(|()| testkit::ports::reserve().unwrap());
    let server = Server::start(
        "keys max=100000;",
        &format!(
            "server {{ listen 127.0.0.1:{};
                 location /control/ {{ control_api; client_max_body_size 64m; }} }}
             server {{ listen 127.0.0.1:{}; location /control/ {{ control_api; }} }}",
            wide.number, narrow.number
        ),
    );
    let list = server.path("list");
    let lines: String =
        (0..KEYS).map(|number| format!("shop-{number}.customers.example.com green\n")).collect();
    assert!(lines.len() > 1 << 20);
    std::fs::write(&list, lines).unwrap();
    let say = |port: u16| {
        let address = format!("http://127.0.0.1:{port}/control");
        let from = ["switch", "--from", list.to_str().unwrap(), "--json", "--control", &address];
        server.say(&from)
    };
    let refused = say(narrow.number);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert_eq!(refused.json()["code"], "too_large");
    let receipt = say(wide.number);
    assert_eq!(receipt.code, 0, "{}{}", receipt.out, receipt.err);
    assert_eq!(receipt.json()["changed_keys"], KEYS);
    assert!(server.get("shop-29999.customers.example.com").ends_with("green"));
}
