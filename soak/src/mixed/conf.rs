//! The gateway's configurations: one for each reload, all with the same meaning for a request, no two with the same text.
//!
//! Owns the template and what differs from number to number.

use std::fmt::Write;

/// The template; the ports are placeholders of the test directory.
pub(super) const TEMPLATE: &str = include_str!("mixed.conf");
/// The placeholders of ports that not every configuration has.
pub(super) const SIDES: [&str; 2] = ["{port:side0}", "{port:side1}"];

/// Returns true if the configuration of this number listens at this side port.
pub(super) fn has_side(number: u64, side: usize) -> bool {
    match side {
        0 => number % 2 == 1,
        _ => number % 3 == 2,
    }
}

/// Returns the configuration of this number; `origins` has the ports of blue's and green's servers and of the broken one.
pub(super) fn text(number: u64, origins: &[u16; 5]) -> String {
    let [a, b, c, d, broken] = *origins;
    let group = |name: &str, one: u16, two: u16| {
        let (one, two) = if number.is_multiple_of(2) { (one, two) } else { (two, one) };
        format!("upstream {name} {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; keepalive 32; }}")
    };
    let mut groups = [group("blue", a, b), group("green", c, d)];
    if number % 4 >= 2 {
        groups.reverse();
    }
    let mut side_servers = String::new();
    for (side, port) in SIDES.iter().enumerate().filter(|(side, _)| has_side(number, *side)) {
        let _ = write!(
            side_servers,
            "server {{ listen 127.0.0.1:{port} backlog=1024; server_name side{side};\n\
             \x20       location / {{ proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;\n\
             \x20           proxy_next_upstream off; proxy_pass http://$live; }} }}\n    "
        );
    }
    let (before, after) =
        if number % 5 < 2 { (side_servers, String::new()) } else { (String::new(), side_servers) };
    let values = [
        ("{groups}", groups.join("\n    ")),
        ("{before}", before),
        ("{after}", after),
        ("{number}", number.to_string()),
        ("{broken}", broken.to_string()),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Returns a configuration that is invalid.
pub(super) fn invalid_text(number: u64, origins: &[u16; 5]) -> String {
    text(number, origins).replace("proxy_pass  http://$live;", "proxy_pass  http://$nowhere;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_their_side_ports_and_no_placeholder_is_left() {
        let origins = [20_005, 20_006, 20_007, 20_008, 20_009];
        for number in 0..12 {
            let text = text(number, &origins);
            for placeholder in ["{groups}", "{before}", "{after}", "{number}", "{broken}"] {
                assert!(!text.contains(placeholder), "{number}: {placeholder}");
            }
            for (side, port) in SIDES.iter().enumerate() {
                assert_eq!(
                    text.contains(&format!("listen 127.0.0.1:{port} ")),
                    has_side(number, side),
                    "{number}"
                );
            }
        }
        assert_ne!(invalid_text(1, &origins), text(1, &origins));
    }
}
