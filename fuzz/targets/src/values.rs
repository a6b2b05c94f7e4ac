//! The values of directives: `conf::value`.
//!
//! Compares sizes, numbers and times with a second reading whose numbers cannot overflow.

use conf::value;

pub(crate) fn check(data: &[u8]) {
    assert_eq!(value::parse_number(data), scaled(data, &[]));
    assert_eq!(value::parse_buffer_size(data), scaled(data, &[(b'k', 10), (b'm', 20)]));
    assert_eq!(value::parse_size(data), scaled(data, &[(b'k', 10), (b'm', 20), (b'g', 30)]));
    for seconds in [false, true] {
        let read = if seconds { value::parse_time_s } else { value::parse_time_ms };
        let told = read(data);
        assert_eq!(told, time(data, seconds), "{:?}", bstr::BStr::new(data));
        if let Some(span) = told {
            let text = if seconds { format!("{span}s") } else { format!("{span}ms") };
            assert_eq!(read(text.as_bytes()), Some(span));
        }
    }
    let flag = value::parse_flag(data);
    assert_eq!(flag.is_some(), matches!(&*data.to_ascii_lowercase(), b"on" | b"off"));
}

fn fits(number: u128) -> Option<u64> {
    (number <= i64::MAX as u128).then_some(number as u64)
}

fn digits(text: &[u8]) -> Option<u128> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum: u128, digit| (sum * 10 + u128::from(digit - b'0')).min(1 << 90)))
}

fn scaled(text: &[u8], units: &[(u8, u32)]) -> Option<u64> {
    let last = text.last()?.to_ascii_lowercase();
    match units.iter().find(|(letter, _)| *letter == last) {
        Some((_, bits)) => fits(digits(&text[..text.len() - 1])? << bits),
        None => fits(digits(text)?),
    }
}

/// Returns nginx's ngx_parse_time as a list of steps, with the units in their order.
fn time(text: &[u8], seconds: bool) -> Option<u64> {
    const UNITS: [(&[u8], u128); 9] = [
        (b"y", 365 * 86_400_000),
        (b"M", 30 * 86_400_000),
        (b"w", 7 * 86_400_000),
        (b"d", 86_400_000),
        (b"h", 3_600_000),
        (b"m", 60_000),
        (b"s", 1000),
        (b"ms", 1),
        (b" ", 1000),
    ];
    let scale = if seconds { 1000 } else { 1 };
    let mut total: u128 = 0;
    let mut value: u128 = 0;
    let mut step = if seconds { 0 } else { 2 };
    let mut any = false;
    let mut at = 0;
    while at < text.len() {
        if text[at].is_ascii_digit() {
            any = true;
            value = value * 10 + u128::from(text[at] - b'0');
            at += 1;
            fits(value)?;
            continue;
        }
        // The longest unit that fits here.
        let (place, (name, worth)) = UNITS
            .iter()
            .enumerate()
            .filter(|(_, (name, _))| text[at..].starts_with(name))
            .max_by_key(|(_, (name, _))| name.len())?;
        let blank = *name == b" ";
        match place {
            // Milliseconds, only where they are allowed.
            7 if seconds || step > 7 => return None,
            // A blank replaces omitted seconds, so it is allowed where they are.
            8 if step > 6 => return None,
            _ if place < step => return None,
            _ => {}
        }
        step = if blank || place == 7 { 9 } else { place + 1 };
        total += value * worth / scale;
        fits(total)?;
        value = 0;
        at += name.len();
        while text.get(at) == Some(&b' ') {
            at += 1;
        }
    }
    if !any {
        return None;
    }
    fits(total + value * (1000 / scale))
}
