//! The fields of a message: `http::Headers`, compared with a plain list of pairs under the same operations.

use bstr::BStr;
use http::{Headers, Known};

/// Known and unknown names, some in more than one spelling.
const NAMES: [&str; 16] = [
    "Host",
    "host",
    "HOST",
    "Content-Length",
    "content-length",
    "X-One",
    "x-one",
    "X_One",
    "x-two",
    "Cookie",
    "Set-Cookie",
    "Connection",
    "X-Forwarded-For",
    "Etag",
    "ETag",
    "a",
];

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn same(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// As a variable's name says a field's.
fn underscored(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect()
}

fn set(pairs: &mut Pairs, name: &[u8], value: &[u8]) {
    let mut first = true;
    pairs.retain_mut(|(known, old)| {
        if !same(known, name) {
            return true;
        }
        if first {
            *old = value.to_vec();
        }
        std::mem::take(&mut first)
    });
    if first {
        pairs.push((name.to_vec(), value.to_vec()));
    }
}

pub(crate) fn check(data: &[u8]) {
    let mut list = Headers::new();
    let mut pairs: Pairs = Vec::new();
    for order in data.chunks(3).take(200) {
        let [what, name, rest @ ..] = order else { break };
        let name = NAMES[usize::from(*name) % NAMES.len()].as_bytes();
        let value = format!("{:?}", rest.first());
        let value = value.as_bytes();
        match what % 10 {
            0..=2 => {
                list.push(name, value);
                pairs.push((name.to_vec(), value.to_vec()));
            }
            3 | 4 => {
                list.set(name, value);
                set(&mut pairs, name, value);
            }
            5 => {
                let removed = list.remove(name);
                let before = pairs.len();
                pairs.retain(|(known, _)| !same(known, name));
                assert_eq!(removed, pairs.len() != before);
            }
            6 => {
                let index = usize::from(*rest.first().unwrap_or(&0)) % (pairs.len() + 2);
                list.set_value(index, value);
                if let Some(pair) = pairs.get_mut(index) {
                    pair.1 = value.to_vec();
                }
            }
            7 => {
                let odd = |name: &[u8], value: &[u8]| (name.len() + value.len()) % 2 == 1;
                list.retain(|_, name, value| odd(name, value));
                pairs.retain(|(name, value)| odd(name, value));
            }
            8 => {
                if let Some(known) = Known::from_bytes(name) {
                    list.set_known(known, value);
                    set(&mut pairs, known.name().as_bytes(), value);
                }
            }
            _ if *what == 9 => {
                list.clear();
                pairs.clear();
            }
            _ => {
                list.shrink_to(0);
            }
        }
        compare(&list, &pairs);
    }
}

fn compare(list: &Headers, pairs: &Pairs) {
    assert_eq!((list.len(), list.is_empty()), (pairs.len(), pairs.is_empty()));
    for (index, ((known, name, value), pair)) in list.iter().zip(pairs).enumerate() {
        assert_eq!((BStr::new(name), BStr::new(value)), (BStr::new(&pair.0), BStr::new(&pair.1)));
        assert_eq!(known, Known::from_bytes(name));
        assert_eq!(list.at(index), Some((known, name, value)));
    }
    assert_eq!(list.at(pairs.len()), None);
    for name in NAMES.map(str::as_bytes) {
        let values: Vec<&[u8]> =
            pairs.iter().filter(|(known, _)| same(known, name)).map(|(_, value)| &**value).collect();
        assert_eq!(list.find_all(name).collect::<Vec<_>>(), values);
        assert_eq!((list.find(name), list.contains(name)), (values.first().copied(), !values.is_empty()));
        if let Some(known) = Known::from_bytes(name) {
            assert_eq!(list.get_all(known).collect::<Vec<_>>(), values);
            assert_eq!((list.get(known), list.has(known)), (values.first().copied(), !values.is_empty()));
        }
        let asked = underscored(name);
        let meant: Vec<&[u8]> = pairs
            .iter()
            .filter(|(known, _)| underscored(known) == asked)
            .map(|(_, value)| &**value)
            .collect();
        assert_eq!(list.find_all_underscored(&asked).collect::<Vec<_>>(), meant);
    }
}
