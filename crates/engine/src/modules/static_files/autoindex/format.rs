//! How a listing is written: nginx's page, JSON, and XML, byte for byte.

use crate::host::FolderEntry;
use http::date::{Civil, http_date};
use http::escape::{Escape, escape};
use std::io::Write;

/// What a page shows of times and sizes.
pub(super) struct Listing {
    /// Sizes in bytes.
    pub(super) exact_size: bool,
    /// The offset of the times shown from UTC.
    pub(super) utc_offset_s: i32,
    /// Names are UTF-8: their characters are counted.
    pub(super) is_utf8: bool,
}

/// The width of names in a page.
const NAME_WIDTH: usize = 50;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Appends text with what HTML and XML escape.
fn markup(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            byte => out.push(*byte),
        }
    }
}

/// Returns how many bytes the first `count` characters have; all of them if there are no more.
fn prefix(name: &[u8], count: usize, is_utf8: bool) -> usize {
    match is_utf8.then(|| std::str::from_utf8(name)) {
        Some(Ok(text)) => text.char_indices().nth(count).map_or(name.len(), |(at, _)| at),
        _ => count.min(name.len()),
    }
}

fn width(name: &[u8], is_utf8: bool) -> usize {
    match is_utf8.then(|| std::str::from_utf8(name)) {
        Some(Ok(text)) => text.chars().count(),
        _ => name.len(),
    }
}

pub(super) fn html(listing: &Listing, uri: &[u8], entries: &[FolderEntry], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<html>\r\n<head><title>Index of ");
    markup(uri, out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    markup(uri, out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for entry in entries {
        out.extend_from_slice(b"<a href=\"");
        escape(Escape::UriComponent, &entry.name, out);
        if entry.is_dir {
            out.push(b'/');
        }
        out.extend_from_slice(b"\">");
        let mut len = width(&entry.name, listing.is_utf8);
        if len > NAME_WIDTH {
            markup(&entry.name[..prefix(&entry.name, NAME_WIDTH - 3, listing.is_utf8)], out);
            out.extend_from_slice(b"..&gt;</a>");
        } else {
            markup(&entry.name, out);
            if entry.is_dir && len < NAME_WIDTH {
                out.push(b'/');
                len += 1;
            }
            out.extend_from_slice(b"</a>");
            out.resize(out.len() + NAME_WIDTH - len, b' ');
        }
        out.push(b' ');
        line_end(listing, entry, out);
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
}

/// Appends the time and the size of an entry.
fn line_end(listing: &Listing, entry: &FolderEntry, out: &mut Vec<u8>) {
    let time = Civil::local(entry.modified_s, listing.utc_offset_s);
    let month = MONTHS[time.month.clamp(1, 12) as usize - 1];
    // Writing to memory does not fail.
    let _ = write!(out, "{:02}-{month}-{} {:02}:{:02} ", time.day, time.year, time.hour, time.minute);
    let _ = match (listing.exact_size, entry.is_dir) {
        (true, true) => write!(out, "{:>19}", "-"),
        (true, false) => write!(out, "{:>19}", entry.len),
        (false, true) => write!(out, "{:>7}", "-"),
        (false, false) => {
            let (size, scale) = rounded(entry.len);
            write!(out, "{size:>6}{scale}")
        }
    };
    out.extend_from_slice(b"\r\n");
}

/// Returns a size in the largest unit that is not too coarse.
fn rounded(len: u64) -> (String, &'static str) {
    const UNITS: [(u64, u64, &str); 3] =
        [(1 << 30, (1 << 30) - 1, "G"), (1 << 20, (1 << 20) - 1, "M"), (1 << 10, 9999, "K")];
    match UNITS.into_iter().find(|(_, above, _)| len > *above) {
        Some((unit, _, scale)) => {
            let size = len / unit + u64::from(len % unit > unit / 2 - 1);
            (size.to_string(), scale)
        }
        None => (format!(" {len:>6}"), ""),
    }
}

/// Appends a text as JSON escapes it.
fn json_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                let _ = write!(out, "\\u{byte:04X}");
            }
            byte => out.push(*byte),
        }
    }
}

fn kind(entry: &FolderEntry) -> &'static str {
    match (entry.is_dir, entry.is_file) {
        (true, _) => "directory",
        (false, true) => "file",
        (false, false) => "other",
    }
}

pub(super) fn json(entries: &[FolderEntry], out: &mut Vec<u8>) {
    out.extend_from_slice(b"[");
    for (place, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b"\r\n" } else { b",\r\n" });
        out.extend_from_slice(b"{ \"name\":\"");
        json_text(&entry.name, out);
        let _ = write!(out, "\", \"type\":\"{}\", \"mtime\":\"", kind(entry));
        out.extend_from_slice(&http_date(entry.modified_s));
        out.push(b'"');
        if entry.is_file {
            let _ = write!(out, ", \"size\":{}", entry.len);
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
}

pub(super) fn jsonp(callback: &[u8], entries: &[FolderEntry], out: &mut Vec<u8>) {
    out.extend_from_slice(b"/* callback */\r\n");
    out.extend_from_slice(callback);
    out.push(b'(');
    json(entries, out);
    out.extend_from_slice(b");");
}

pub(super) fn xml(entries: &[FolderEntry], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version=\"1.0\"?>\r\n<list>\r\n");
    for entry in entries {
        let (kind, time) = (kind(entry), Civil::from_epoch_s(entry.modified_s));
        let _ = write!(
            out,
            "<{kind} mtime=\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z\"",
            time.year, time.month, time.day, time.hour, time.minute, time.second
        );
        if entry.is_file {
            let _ = write!(out, " size=\"{}\"", entry.len);
        }
        out.push(b'>');
        markup(&entry.name, out);
        let _ = write!(out, "</{kind}>\r\n");
    }
    out.extend_from_slice(b"</list>\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_in_nginx() {
        for (len, shown) in [
            (0, "      0"),
            (9999, "   9999"),
            (10_000, "    10K"),
            (1_048_575, "  1024K"),
            (1_048_576, "     1M"),
            (1_572_864, "     2M"),
            (1 << 30, "     1G"),
        ] {
            let (size, scale) = rounded(len);
            assert_eq!(format!("{size:>6}{scale}"), shown, "{len}");
        }
    }
}
