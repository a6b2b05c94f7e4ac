//! The values of fields: hosts, cookies, arguments, dates, lists, lengths.
//!
//! Compares each with its own text, with a second reading where that is short, and with the bounds of the value. The first
//! line is a name (of a cookie, of an argument), the rest the value.

use bstr::{BStr, ByteSlice};
use http::{Headers, args, authority, cookie, date, framing};
use switch::{Key, KeyKind, Shape};

pub(crate) fn check(data: &[u8]) {
    let (name, value) = data.split_once_str(b"\n").unwrap_or((b"a", data));
    host(value);
    if let Some(found) = cookie::find([value], name) {
        assert!(!found.contains(&b';') && within(value, found));
        // It follows its name.
        assert!(contains_folded(value, name));
        // An earlier field without the cookie changes nothing.
        assert_eq!(cookie::find([&b";;"[..], value], name), Some(found));
    }
    if let Some(found) = args::find(value, name) {
        assert!(!found.contains(&b'&') && within(value, found));
        let by_hand = value.split(|byte| *byte == b'&').find_map(|argument| {
            let at = argument
                .iter()
                .enumerate()
                .find(|(at, byte)| **byte == b'=' && argument[..*at].eq_ignore_ascii_case(name));
            at.map(|(at, _)| &argument[at + 1..])
        });
        assert_eq!(by_hand.map(BStr::new), Some(BStr::new(found)));
    }
    dates(value);
    if let Some(length) = framing::parse_length(value) {
        assert!(length <= i64::MAX as u64 && value.iter().all(u8::is_ascii_digit));
        assert_eq!(
            value.trim_start_with(|c| c == '0').to_str().unwrap(),
            if length == 0 { String::new() } else { length.to_string() }
        );
    }
    let mut headers = Headers::new();
    headers.push(b"Connection", value);
    let options: Vec<&[u8]> = framing::connection_options(&headers).collect();
    assert!(
        options
            .iter()
            .all(|option| !option.is_empty() && !option.contains(&b',') && option.trim_ascii() == *option)
    );
    let connection = framing::connection(&headers);
    assert_eq!(connection.close, options.iter().any(|option| option.eq_ignore_ascii_case(b"close")));
}

fn within(whole: &[u8], part: &[u8]) -> bool {
    whole.as_ptr_range().start <= part.as_ptr_range().start
        && part.as_ptr_range().end <= whole.as_ptr_range().end
}

fn contains_folded(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

fn host(value: &[u8]) {
    let mut host = b"left over".to_vec();
    let Ok(port) = authority::parse(value, &mut host) else {
        assert!(host.is_empty());
        return;
    };
    assert!(!host.is_empty() && !host.iter().any(u8::is_ascii_uppercase));
    assert!(
        !host.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f || b"/\\@?#".contains(byte)),
        "{:?}",
        BStr::new(&host)
    );
    assert!(host[0] == b'[' || !host.contains(&b':'));
    assert!(!host.contains_str(".."));
    let mut again = Vec::new();
    let whole = if port == 0 { host.clone() } else { [&host[..], format!(":{port}").as_bytes()].concat() };
    assert_eq!(authority::parse(&whole, &mut again), Ok(port));
    assert_eq!(BStr::new(&again), BStr::new(&host));
    // The key of a switch is the host of a request for it.
    if let Ok(key) = Key::parse(KeyKind::Host, value, usize::MAX)
        && key.shape() == Shape::Exact
    {
        assert_eq!(BStr::new(key.as_str()), BStr::new(&host));
        let mut room = Vec::new();
        assert_eq!(BStr::new(switch::normalise(KeyKind::Host, value, &mut room)), BStr::new(&host));
        assert_eq!(BStr::new(switch::normalise(KeyKind::Host, &host, &mut room)), BStr::new(&host));
    }
}

fn dates(value: &[u8]) {
    if let Some(epoch_s) = date::parse_http_date(value) {
        let written = date::http_date(epoch_s);
        assert_eq!(date::parse_http_date(&written), Some(epoch_s), "{:?}", BStr::new(value));
    }
    let Some(eight) = value.first_chunk::<8>() else { return };
    // Up to the year 9999.
    let epoch_s = u64::from_le_bytes(*eight) % 253_402_300_800;
    assert_eq!(date::parse_http_date(&date::http_date(epoch_s)), Some(epoch_s));
    let offset_s = i32::from_le_bytes([eight[4], eight[5], eight[6], 0]) % 50_400;
    let shown = [
        date::log_time(epoch_s, offset_s).to_vec(),
        date::iso8601(epoch_s, offset_s).to_vec(),
        date::error_log_time(epoch_s, offset_s).to_vec(),
        date::syslog_time(epoch_s, offset_s).to_vec(),
    ];
    assert!(shown.iter().flatten().all(|byte| (b' '..0x7f).contains(byte)));
    let civil = date::Civil::from_epoch_s(epoch_s);
    assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day) && civil.hour < 24);
}
