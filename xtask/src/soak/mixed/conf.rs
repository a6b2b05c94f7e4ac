//! The gateway's configurations: one for each reload, all of the same meaning for a request, none of the same text.
//!
//! Owns the template and what differs from number to number. Must never change what a request to the front door gets.

use std::fmt::Write;

const TEMPLATE: &str = include_str!("mixed.conf");

/// The ports of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    /// Where clients come in.
    pub(super) front: u16,
    /// Doors that are there in some configurations only.
    pub(super) sides: [u16; 2],
    /// Nobody listens here.
    pub(super) dead: u16,
    /// The servers of blue, then those of green.
    pub(super) origins: [u16; 4],
    /// A server that breaks everything it is asked.
    pub(super) broken: u16,
}

/// Does the configuration of this number have this side door?
pub(super) fn has_side(number: u64, side: usize) -> bool {
    match side {
        0 => number % 2 == 1,
        _ => number % 3 == 2,
    }
}

/// The configuration of this number.
pub(super) fn text(number: u64, ports: &Ports) -> String {
    let [a, b, c, d] = ports.origins;
    let group = |name: &str, one: u16, two: u16| {
        let (one, two) = if number.is_multiple_of(2) { (one, two) } else { (two, one) };
        format!("upstream {name} {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; keepalive 32; }}")
    };
    let mut groups = [group("blue", a, b), group("green", c, d)];
    if number % 4 >= 2 {
        groups.reverse();
    }
    let mut side_servers = String::new();
    for (side, port) in ports.sides.iter().enumerate().filter(|(side, _)| has_side(number, *side)) {
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
        ("{front}", ports.front.to_string()),
        ("{dead}", ports.dead.to_string()),
        ("{broken}", ports.broken.to_string()),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// A configuration that cannot be.
pub(super) fn bad_text(number: u64, ports: &Ports) -> String {
    text(number, ports).replace("proxy_pass  http://$live;", "proxy_pass  http://$nowhere;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_doors_and_no_placeholder_is_left() {
        let ports = Ports {
            front: 20_001,
            sides: [20_002, 20_003],
            dead: 20_004,
            origins: [20_005, 20_006, 20_007, 20_008],
            broken: 20_009,
        };
        for number in 0..12 {
            let text = text(number, &ports);
            for placeholder in
                ["{groups}", "{before}", "{after}", "{number}", "{front}", "{dead}", "{broken}"]
            {
                assert!(!text.contains(placeholder), "{number}: {placeholder}");
            }
            for side in 0..2 {
                let listens = text.contains(&format!("listen 127.0.0.1:{} ", ports.sides[side]));
                assert_eq!(listens, has_side(number, side), "{number}");
            }
        }
        assert_ne!(bad_text(1, &ports), text(1, &ports));
    }
}
