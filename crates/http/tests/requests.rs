//! Requests in pieces, and compared with httparse.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod described;
mod random;

use described::describe;
use pointsman_http::{HeadLimits, Progress, RequestHead};
use random::Xorshift;

#[test]
fn any_split_decodes_as_the_whole() {
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    let tight = HeadLimits {
        client_header_buffer_size: 40,
        large_client_header_buffers: (2, 50),
        ..HeadLimits::default()
    };
    for round in 0..20_000 {
        let input = random::request(&mut random);
        let limits = if round % 3 == 0 { &tight } else { &HeadLimits::default() };
        let at_once = describe(&input, &mut std::iter::empty(), limits);
        let largest = 1 + random.below(12);
        let mut sizes =
            std::iter::repeat_with(|| 1 + random.below(largest)).take(input.len()).collect::<Vec<_>>();
        let in_pieces = describe(&input, &mut sizes.drain(..), limits);
        assert_eq!(in_pieces, at_once, "{:?}", bstr::BStr::new(&input));
    }
}

#[test]
fn httparse_decodes_the_same_requests() {
    let mut random = Xorshift(0xD1B5_4A32_D192_ED03);
    let (mut both, mut differ) = (0, 0);
    for _ in 0..20_000 {
        let input = random::request(&mut random);
        let mut ours = RequestHead::new();
        let limits = HeadLimits { ignore_invalid_headers: false, ..HeadLimits::default() };
        let Ok(Progress::Complete { consumed }) = ours.decode(&input, &limits) else { continue };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut theirs = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(len)) = theirs.parse(&input) else { continue };
        both += 1;
        let name = bstr::BStr::new(&input);
        assert_eq!(consumed, len, "{name:?}");
        assert_eq!(ours.method_bytes(), theirs.method.unwrap().as_bytes(), "{name:?}");
        if ours.authority().is_none() {
            assert_eq!(ours.target(), theirs.path.unwrap().as_bytes(), "{name:?}");
        }
        assert_eq!(ours.headers.len(), theirs.headers.len(), "{name:?}");
        for ((_, key, value), field) in ours.headers.iter().zip(theirs.headers.iter()) {
            assert_eq!(key, field.name.as_bytes(), "{name:?}");
            // httparse also trims tabs around a value, nginx does not.
            let trimmed = value.trim_ascii();
            differ += usize::from(trimmed != value);
            assert_eq!(trimmed, field.value, "{name:?}");
        }
    }
    assert!(both > 2_000, "only {both} requests were accepted by both");
    assert!(differ < both / 10);
}
