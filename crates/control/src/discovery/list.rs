//! A list of servers as files and registries have it: lines, or JSON.
//!
//! Owns both forms. All of a list is taken or nothing of it.

use crate::barred;
use engine::modules::upstream::{FoundServer, MAX_FOUND};
use serde_json::Value;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use switch::{ServerParams, server_address};
use upstream::Address;

/// The greatest length of a list, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Reads a list.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<FoundServer>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let servers = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => of_json(text)?,
        _ => of_lines(text)?,
    };
    let mut known = HashSet::new();
    if let Some(twice) = servers.iter().find(|server| !known.insert(&server.address)) {
        return Err(format!("it has the server {} twice", twice.address));
    }
    if servers.len() > MAX_FOUND {
        return Err(format!("it has {} servers: at most {MAX_FOUND}", servers.len()));
    }
    Ok(servers)
}

/// `server ADDRESS [PARAMETER...];` on each line, and comments after `#`.
fn of_lines(text: &str) -> Result<Vec<FoundServer>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line has no end: it is still being written".to_owned());
    }
    let mut servers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fault = |text: &str| format!("line {}: {text}", number + 1);
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let words = line.strip_suffix(';').ok_or_else(|| fault("it does not end with \";\""))?;
        let mut words = words.split_whitespace();
        if words.next() != Some("server") {
            return Err(fault("expected: server ADDRESS [PARAMETER...];"));
        }
        let address = words.next().ok_or_else(|| fault("the address is missing"))?;
        let mut params = ServerParams::default();
        for word in words {
            params.read(word).map_err(|text| fault(&text))?;
        }
        servers.push(server(address, params).map_err(|text| fault(&text))?);
    }
    Ok(servers)
}

/// `[…]`, or `{"servers": […]}`: each an address, or `{"server": "10.0.0.1:80", "params": {"weight": 2}}`.
fn of_json(text: &str) -> Result<Vec<FoundServer>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let list = match &value {
        Value::Array(list) => list,
        Value::Object(object) => {
            let servers = object.get("servers").and_then(Value::as_array);
            servers.ok_or("it has no list \"servers\"")?
        }
        _ => return Err("it is no list of servers".to_owned()),
    };
    let one = |(number, value): (usize, &Value)| {
        let fault = |text: String| format!("server {}: {text}", number + 1);
        let address = value.as_str().or_else(|| value.get("server")?.as_str());
        let address = address.ok_or_else(|| fault("it has no text \"server\"".to_owned()))?;
        let params = match value.get("params") {
            None | Some(Value::Null) => ServerParams::default(),
            Some(Value::Object(params)) => params_of(params).map_err(fault)?,
            Some(_) => return Err(fault("its \"params\" are no object".to_owned())),
        };
        server(address, params).map_err(fault)
    };
    list.iter().enumerate().map(one).collect()
}

fn params_of(object: &serde_json::Map<String, Value>) -> Result<ServerParams, String> {
    let mut params = ServerParams::default();
    for (name, value) in object {
        let value = match value {
            Value::Null => continue,
            Value::Bool(true) => "on".to_owned(),
            Value::Bool(false) => "off".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        params.read(&format!("{name}={value}"))?;
    }
    Ok(params)
}

/// Returns a server by its address.
pub(super) fn server(text: &str, params: ServerParams) -> Result<FoundServer, String> {
    let address = server_address(text).map_err(|fault| format!("{text:?}: {fault}"))?;
    let address = match address.strip_prefix("unix:") {
        Some(path) => Address::Unix(PathBuf::from(path)),
        None => {
            let address: SocketAddr = address.parse().map_err(|_| format!("{text:?} is no address"))?;
            if barred::is_of_no_server(address.ip()) {
                return Err(format!("{text:?} is the address of no server"));
            }
            Address::Inet(address)
        }
    };
    Ok(FoundServer { address, params, is_secondary: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let text_of =
            |server: &FoundServer| format!("{} {}", server.address, server.params).trim_end().to_owned();
        Ok(parse(text.as_bytes())?.iter().map(text_of).collect())
    }

    #[test]
    fn both_forms_say_the_same() {
        let lines = "# of Monday\nserver 10.0.0.1:81 weight=3 max_fails=0;\n\n  server [::1] backup; # spare\nserver unix:/a.sock down;\n";
        let json = r#"{"servers": [{"server": "10.0.0.1:81", "params": {"weight": 3, "max_fails": 0}},
            {"server": "[::1]:80", "source": "file", "params": {"backup": true, "down": null}},
            {"server": "unix:/a.sock", "params": {"down": true}}]}"#;
        let expected = ["10.0.0.1:81 weight=3 max_fails=0", "[::1]:80 backup", "unix:/a.sock down"];
        assert_eq!(shown(lines).unwrap(), expected);
        assert_eq!(shown(json).unwrap(), expected);
        assert_eq!(shown("[\"10.0.0.1\"]").unwrap(), ["10.0.0.1:80"]);
        assert_eq!(shown("").unwrap(), [] as [&str; 0]);
        assert_eq!(shown("[]").unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn an_invalid_list_is_refused_as_a_whole() {
        for (text, part) in [
            ("server 10.0.0.1;\nserver 10.0.0.2", "still being written"),
            ("server 10.0.0.1;\nserver 10.0.0.2\n", "line 2: it does not end with"),
            ("server 10.0.0.1;\nserver;\n", "line 2: the address is missing"),
            ("10.0.0.1;\n", "line 1: expected: server"),
            ("server app.test;\n", "line 1: \"app.test\": a host name"),
            ("server 10.0.0.1 wieght=2;\n", "\"wieght=2\" is no parameter"),
            ("server 10.0.0.1 weight=0;\n", "invalid weight"),
            ("server 10.0.0.1;\nserver 10.0.0.1:80;\n", "10.0.0.1:80 twice"),
            ("server 0.0.0.0:81;\n", "is the address of no server"),
            ("<html>\n", "line 1: it does not end with"),
            ("{\"servers\": [\"10.0.0.1\"", "it is not JSON"),
            ("{\"server\": []}", "no list \"servers\""),
            ("[1]", "server 1: it has no text"),
            ("[{\"server\": \"10.0.0.1\", \"params\": {\"weight\": 1.5}}]", "invalid weight"),
            ("[{\"server\": \"10.0.0.1\", \"params\": 3}]", "no object"),
        ] {
            let fault = shown(text).unwrap_err();
            assert!(fault.contains(part), "{fault}");
        }
        assert!(parse(b"server 10.0.0.1;\xff\n").is_err());
    }
}
