//! A thousand server names, each with an upstream group of its own, for the configurations `bench/conf/names.*`.

use std::fmt::Write as _;

/// The number of names.
pub(crate) const COUNT: usize = 1_000;

/// Returns the n-th name.
pub(crate) fn host(n: usize) -> String {
    format!("s{n}.example.com")
}

/// Groups and servers for nginx.
pub(crate) fn servers() -> String {
    let mut text = String::new();
    for n in 0..COUNT {
        let host = host(n);
        let _ = write!(
            text,
            "    upstream group{n} {{ server 127.0.0.1:{{origin}}; keepalive 4; }}\n\
             \x20   server {{\n\
             \x20       listen 127.0.0.1:{{port:front}};\n\
             \x20       server_name {host};\n\
             \x20       location / {{ proxy_pass http://group{n}; }}\n\
             \x20   }}\n"
        );
    }
    text
}

/// Groups for HAProxy, which finds them by name in a map.
pub(crate) fn backends() -> String {
    let mut text = String::new();
    for n in 0..COUNT {
        let _ = write!(text, "backend group{n}\n    server origin 127.0.0.1:{{origin}}\n");
    }
    text
}

/// Returns the map for HAProxy.
pub(crate) fn map() -> String {
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
