//! The configuration of many names: a thousand servers by name, each before an upstream group of its own.
//!
//! It is too long to be a file; the frame around it is one (`bench/conf/names.*`).

use std::fmt::Write as _;

/// How many.
pub(super) const COUNT: usize = 1_000;

/// The name of the n-th.
pub(super) fn host(n: usize) -> String {
    format!("s{n}.example.com")
}

/// nginx: groups and servers.
pub(super) fn servers() -> String {
    let mut text = String::new();
    for n in 0..COUNT {
        let host = host(n);
        let _ = write!(
            text,
            "    upstream group{n} {{ server 127.0.0.1:{{origin}}; keepalive 4; }}\n\
             \x20   server {{\n\
             \x20       listen 127.0.0.1:{{front}};\n\
             \x20       server_name {host};\n\
             \x20       location / {{ proxy_pass http://group{n}; }}\n\
             \x20   }}\n"
        );
    }
    text
}

/// HAProxy: groups, which a map finds by the name.
pub(super) fn backends() -> String {
    let mut text = String::new();
    for n in 0..COUNT {
        let _ = write!(text, "backend group{n}\n    server origin 127.0.0.1:{{origin}}\n");
    }
    text
}

/// The map for HAProxy.
pub(super) fn map() -> String {
    (0..COUNT).map(|n| format!("{} group{n}\n", host(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_group() {
        assert_eq!(servers().matches("server_name").count(), COUNT);
        assert!(
            servers()
                .contains("server_name s7.example.com;\n        location / { proxy_pass http://group7; }")
        );
        assert_eq!(backends().matches("backend ").count(), COUNT);
        assert_eq!(map().lines().nth(7), Some("s7.example.com group7"));
    }
}
