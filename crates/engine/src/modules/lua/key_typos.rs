//! Typing errors in keys of shared dicts: one spelling is written and never read, another one nearly like it is
//! read and never written. Such a configuration runs and never works as meant, so it is worth a warning.
//!
//! Only keys that are plain strings in scripts of the configuration are looked at.

use crate::config::Builder;
use conf::{Diagnostic, Span};

/// The use that a shared dict's method makes of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Reads,
    Writes,
    Both,
}

const METHODS: [(&str, Use); 17] = [
    ("get", Use::Reads),
    ("get_stale", Use::Reads),
    ("ttl", Use::Reads),
    ("llen", Use::Reads),
    ("lpop", Use::Reads),
    ("rpop", Use::Reads),
    ("set", Use::Writes),
    ("safe_set", Use::Writes),
    ("add", Use::Writes),
    ("safe_add", Use::Writes),
    ("replace", Use::Writes),
    ("lpush", Use::Writes),
    ("rpush", Use::Writes),
    ("incr", Use::Both),
    ("delete", Use::Both),
    ("expire", Use::Both),
    ("touch", Use::Both),
];

/// Keys shorter than this are near to everything.
const SHORTEST: usize = 4;

/// Warns of keys that look like one key spelt in two ways.
pub(super) fn finish(b: &mut Builder<'_>) {
    let mut found: Vec<(String, Use, Span)> = Vec::new();
    for span in b.draft.lua.scripts.iter().filter_map(|script| script.span) {
        let text = b.sources.text(span.source);
        if let Some(code) = text.get(span.start as usize..span.end as usize) {
            collect(code, span, &mut found);
        }
    }
    let only = |wanted: Use| {
        let mut keys: Vec<&(String, Use, Span)> = Vec::new();
        for entry in &found {
            let alone = found.iter().all(|(key, how, _)| *key != entry.0 || *how == wanted);
            if alone && entry.0.len() >= SHORTEST && !keys.iter().any(|(key, ..)| *key == entry.0) {
                keys.push(entry);
            }
        }
        keys
    };
    let (read, written) = (only(Use::Reads), only(Use::Writes));
    let mut warnings = Vec::new();
    for (key, _, place) in written {
        let Some(near) = conf::nearest(key, read.iter().map(|(key, ..)| key.as_str())) else { continue };
        let Some((.., read_at)) = read.iter().find(|(key, ..)| key == near) else { continue };
        warnings.push(
            Diagnostic::warn(*place, format!("the key \"{key}\" is written here and read nowhere"))
                .label(format!("\"{near}\" is what is read"))
                .also(*read_at, "read here, and written nowhere")
                .help(format!("if they are one key, write \"{near}\"")),
        );
    }
    b.diagnostics.extend(warnings);
}

/// Finds `:method("key"` in Lua code.
fn collect(code: &[u8], span: Span, found: &mut Vec<(String, Use, Span)>) {
    for colon in memchr::memchr_iter(b':', code) {
        let rest = &code[colon + 1..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let Some((_, how)) = METHODS.iter().find(|(name, _)| name.as_bytes() == &rest[..len]) else {
            continue;
        };
        let Some((quote @ (b'"' | b'\''), at)) = argument(&rest[len..]) else { continue };
        let begin = colon + 1 + len + at + 1;
        let Some(key_len) = memchr::memchr(quote, &code[begin..]) else { continue };
        let Ok(key) = std::str::from_utf8(&code[begin..begin + key_len]) else { continue };
        // A key that is put together, or holds escapes, says nothing here.
        let after = code[begin + key_len + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(after, Some(b',' | b')')) && !key.contains('\\') {
            let start = span.start + begin as u32;
            let place = Span { source: span.source, start, end: start + key_len as u32 };
            found.push((key.to_owned(), *how, place));
        }
    }
}

/// Returns the first byte of a call's first argument, and its offset after the method's name.
fn argument(text: &[u8]) -> Option<(u8, usize)> {
    let open = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if text[open] != b'(' {
        return None;
    }
    let first = open + 1 + text[open + 1..].iter().position(|byte| !byte.is_ascii_whitespace())?;
    Some((text[first], first))
}

#[cfg(test)]
mod tests {
    use crate::testing::faults_of;

    #[test]
    fn a_key_spelt_in_two_ways_gets_a_warning() {
        let faults = faults_of(
            "http { lua_shared_dict d 1m; server { listen 80; location / {
             log_by_lua 'local d = ngx.shared.d; d:set(\"upsteam_sum\", 1 + (d:get(\"upstream_sum\") or 0))';
             return 200; } } }",
        );
        assert_eq!(
            faults,
            [r#"the key "upsteam_sum" is written here and read nowhere in /etc/pointsman/nginx.conf:2"#]
        );
    }

    #[test]
    fn consistent_or_dissimilar_keys_get_no_warning() {
        for code in [
            r#"d:set("total_sum", 1); d:get("total_sum"); d:get("total_num"); d:incr("total_num", 1)"#,
            r#"d:set("apples", 1); d:get("oranges")"#,
            r#"d:set("a", 1); d:get("b")"#,
            r#"d:set("count-" .. n, 1); d:get("count_")"#,
        ] {
            let text = format!(
                "http {{ lua_shared_dict d 1m; server {{ listen 80; location / {{
                 content_by_lua_block {{ local d, n = ngx.shared.d, 1 {code} }} }} }} }}"
            );
            assert_eq!(faults_of(&text), Vec::<String>::new(), "{code}");
        }
    }
}
