//! The keys of a switch: a host or any other text, and the wildcards that an entry may be written with.
//!
//! Owns how keys are parsed and normalised, for orders and for requests alike.
//! Must never look anything up, and never let two spellings of one host be two keys.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The kind of a switch's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Host names: compared without case, port and trailing dot, and there are wildcards.
    Host,
    /// Any other text, compared byte by byte.
    Text,
}

/// Which texts a key covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `*`: everything that no other entry covers.
    All,
    /// `www.example.*`: hosts that go on behind the dot.
    Prefix,
    /// `*.example.com`: hosts that have something before the dot.
    Suffix,
    /// One text.
    Exact,
}

/// A key of a switch, normalised.
///
/// Cheap to clone. Keys are ordered by their written form.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    shape: Shape,
    /// The written form, with its asterisk.
    written: Arc<str>,
}

/// Why a text is not a valid key. `Display` is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// It is empty, or nothing is left without port and dot.
    Empty,
    /// Longer than the configuration allows.
    TooLong {
        /// Its bytes when normalised.
        length: usize,
        /// `keys length=N` of the switch.
        max: usize,
    },
    /// A byte that neither a host nor a key may hold: a control character, and in hosts white space, `/` and their
    /// like.
    BadByte(u8),
    /// Text keys are UTF-8.
    NotUtf8,
    /// Hosts travel in ASCII; other letters are written `xn--…` there.
    NotAscii,
    /// Two dots follow each other, or a dot comes first.
    EmptyLabel,
    /// The text after the colon is not a port.
    BadPort,
    /// A bracket that is not closed, or has something behind it.
    BadAddress,
    /// An asterisk that is neither the whole first label nor the whole last one.
    BadWildcard,
    /// A regular expression as nginx writes it: no key is one.
    Regex,
    /// The host "default": what no entry covers has another name.
    Default,
    /// It is spelt like a target of the switch.
    LikeTarget,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::Empty => write!(f, "it is empty"),
            KeyFault::TooLong { length, max } => {
                write!(f, "it is {length} bytes long; the configuration allows {max}")
            }
            KeyFault::BadByte(byte) if byte.is_ascii_graphic() => {
                write!(f, "'{}' is not allowed", char::from(*byte))
            }
            KeyFault::BadByte(b' ') => write!(f, "a space is not allowed"),
            KeyFault::BadByte(byte) => write!(f, "the byte 0x{byte:02x} is not allowed"),
            KeyFault::NotUtf8 => write!(f, "it is not UTF-8"),
            KeyFault::NotAscii => {
                write!(f, "a host is ASCII: write a name with other letters in its xn-- form")
            }
            KeyFault::EmptyLabel => write!(f, "it has an empty label"),
            KeyFault::BadPort => write!(f, "the text behind its colon is not a port"),
            KeyFault::BadAddress => write!(f, "its brackets do not hold an IPv6 address"),
            KeyFault::BadWildcard => {
                write!(f, "an asterisk must be the whole key, its first label or its last one")
            }
            KeyFault::Regex => write!(f, "a key is no regular expression"),
            KeyFault::Default => write!(f, "\"default\" is a host of this name, not all other hosts"),
            KeyFault::LikeTarget => write!(f, "it is spelt like a target of the switch"),
        }
    }
}

impl std::error::Error for KeyFault {}

impl Key {
    /// Returns the empty key.
    pub(crate) fn empty() -> Key {
        Key { shape: Shape::Exact, written: Arc::from("") }
    }

    /// Parses a key as people write it. `max_len` bounds its normalised form, in bytes.
    ///
    /// A host is lowered and loses a port and a trailing dot, as nginx does with the Host header;
    /// `*.example.com`, `www.example.*` and `*` are wildcards with the meaning they have in nginx's `server_name`.
    /// Of the other keys, only `*` alone is special.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with the text.
    ///
    /// ```
    /// use pointsman_switch::{Key, KeyKind};
    ///
    /// let key = Key::parse(KeyKind::Host, b"Shop.Example.com.:8080", 255)?;
    /// assert_eq!(key.as_str(), "shop.example.com");
    /// assert!(Key::parse(KeyKind::Host, b"*.example.com", 255)?.covers(b"shop.example.com"));
    /// # Ok::<(), pointsman_switch::KeyFault>(())
    /// ```
    pub fn parse(kind: KeyKind, text: &[u8], max_len: usize) -> Result<Key, KeyFault> {
        let (shape, written) = match kind {
            KeyKind::Host => parse_host(text)?,
            KeyKind::Text => (if text == b"*" { Shape::All } else { Shape::Exact }, parse_text(text)?),
        };
        if written.len() > max_len {
            return Err(KeyFault::TooLong { length: written.len(), max: max_len });
        }
        Ok(Key { shape, written: written.into() })
    }

    /// Returns its normalised text.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns its shape: which texts it covers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns true if it covers this text (as [`normalise`] returns it). Whether another key takes precedence is for
    /// the table to say.
    pub fn covers(&self, normalised: &[u8]) -> bool {
        let stem = self.stem();
        match self.shape {
            Shape::All => true,
            Shape::Exact => stem == normalised,
            Shape::Suffix => normalised.len() > stem.len() && normalised.ends_with(stem),
            Shape::Prefix => normalised.len() > stem.len() && normalised.starts_with(stem),
        }
    }

    /// Returns true if it takes precedence over `other` where both cover a text. nginx's order for server names: the
    /// exact one, the longest with the asterisk in front, the longest with it at the end.
    pub fn precedes(&self, other: &Key) -> bool {
        (self.shape, self.written.len()) > (other.shape, other.written.len())
    }

    /// Returns true if it has this shape and stem.
    pub(crate) fn is(&self, shape: Shape, stem: &[u8]) -> bool {
        self.shape == shape && self.stem() == stem
    }

    /// Returns the text to compare: without its asterisk, the dot included.
    pub(crate) fn stem(&self) -> &[u8] {
        let bytes = self.written.as_bytes();
        match self.shape {
            Shape::All => &[],
            Shape::Suffix => &bytes[1..],
            Shape::Prefix => &bytes[..bytes.len() - 1],
            Shape::Exact => bytes,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        (&self.written, self.shape).cmp(&(&other.written, other.shape))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.written)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Normalises the key of a request for [`crate::Table::find`].
///
/// Allocates only while `room` is smaller than the longest host seen; a text that is already normalised is returned
/// unchanged. A text that is no host becomes empty, and matches `*` alone.
pub fn normalise<'a>(kind: KeyKind, text: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    match kind {
        KeyKind::Text => text,
        KeyKind::Host if is_plain(text) => text,
        KeyKind::Host => {
            let Ok(host) = host_part(text) else { return &[] };
            if host.iter().any(u8::is_ascii_uppercase) {
                room.clear();
                room.extend(host.iter().map(u8::to_ascii_lowercase));
                room
            } else {
                host
            }
        }
    }
}

/// Returns true for what nearly every client sends, small letters and digits with dots between them: it is already
/// normalised.
fn is_plain(text: &[u8]) -> bool {
    let mut before = b'.';
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if before != b'.' => {}
            _ => return false,
        }
        before = byte;
    }
    before != b'.'
}

fn parse_text(text: &[u8]) -> Result<String, KeyFault> {
    // The empty text is a key too: what a request without that cookie or argument has.
    if let Some(&byte) = text.iter().find(|b| b.is_ascii_control()) {
        return Err(KeyFault::BadByte(byte));
    }
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| KeyFault::NotUtf8)
}

fn parse_host(text: &[u8]) -> Result<(Shape, String), KeyFault> {
    let host = host_part(text)?;
    if !host.is_ascii() {
        return Err(KeyFault::NotAscii);
    }
    // A request with such a port is served by its host alone, as nginx does; in an order it is a mistake.
    let port =
        text.rsplit(|&byte| byte == b':').next().filter(|_| text.contains(&b':') && !text.ends_with(b"]"));
    let is_port = |digits: &[u8]| {
        std::str::from_utf8(digits)
            .is_ok_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err(KeyFault::BadPort);
    }
    let written: String = host.iter().map(|b| char::from(b.to_ascii_lowercase())).collect();
    let (shape, stem) = if written == "*" {
        (Shape::All, "")
    } else if let Some(stem) = written.strip_prefix("*.") {
        (Shape::Suffix, stem)
    } else if let Some(stem) = written.strip_suffix(".*") {
        (Shape::Prefix, stem)
    } else {
        (Shape::Exact, written.as_str())
    };
    if stem.contains('*') {
        return Err(KeyFault::BadWildcard);
    }
    Ok((shape, written))
}

/// Returns a host without port and trailing dot: as nginx's check of the Host header, and stricter where nginx accepts
/// what no name server would resolve.
fn host_part(text: &[u8]) -> Result<&[u8], KeyFault> {
    let address = text.first() == Some(&b'[');
    let (host, port) = if address {
        let end = text.iter().position(|&b| b == b']').ok_or(KeyFault::BadAddress)?;
        let (host, rest) = text.split_at(end + 1);
        if host.len() < 4 || !host[1..end].iter().all(|b| b.is_ascii_hexdigit() || b":.%".contains(b)) {
            return Err(KeyFault::BadAddress);
        }
        match rest {
            [] => (host, None),
            [b':', port @ ..] => (host, Some(port)),
            _ => return Err(KeyFault::BadAddress),
        }
    } else {
        match text.iter().position(|&b| b == b':') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        }
    };
    if port.is_some_and(|port| port.len() > 5 || !port.iter().all(u8::is_ascii_digit)) {
        return Err(KeyFault::BadPort);
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    let mut before = b'.';
    for &byte in host {
        match byte {
            b'.' if before == b'.' => return Err(KeyFault::EmptyLabel),
            0..=b' ' | 0x7f | b'/' | b'\\' | b'?' | b'#' | b'@' => return Err(KeyFault::BadByte(byte)),
            b'[' | b']' if !address => return Err(KeyFault::BadByte(byte)),
            _ => before = byte,
        }
    }
    match before {
        _ if host.is_empty() => Err(KeyFault::Empty),
        b'.' => Err(KeyFault::EmptyLabel),
        _ => Ok(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<String, KeyFault> {
        Key::parse(KeyKind::Host, text.as_bytes(), 64).map(|key| format!("{:?} {key}", key.shape()))
    }

    #[test]
    fn spellings_of_a_host_are_one_key() {
        for spelling in [
            "example.com",
            "EXAMPLE.com",
            "example.com.",
            "Example.Com:8080",
            "example.com.:80",
            "example.com:",
        ] {
            assert_eq!(host(spelling).as_deref(), Ok("Exact example.com"), "{spelling}");
        }
        assert_eq!(host("[2001:DB8::1]:443").as_deref(), Ok("Exact [2001:db8::1]"));
        assert_eq!(host("[::1]").as_deref(), Ok("Exact [::1]"));
        assert_eq!(host("example.com:65535").as_deref(), Ok("Exact example.com"));
        assert_eq!(host("a_b-c").as_deref(), Ok("Exact a_b-c"));
        assert_eq!(host("*").as_deref(), Ok("All *"));
        assert_eq!(host("*.Example.com").as_deref(), Ok("Suffix *.example.com"));
        assert_eq!(host("www.example.*").as_deref(), Ok("Prefix www.example.*"));
    }

    #[test]
    fn an_invalid_host_has_its_fault() {
        use KeyFault::*;
        for (text, fault) in [
            ("", Empty),
            (".", Empty),
            (":80", Empty),
            ("a..b", EmptyLabel),
            (".a", EmptyLabel),
            ("a..", EmptyLabel),
            ("a/b", BadByte(b'/')),
            ("a b", BadByte(b' ')),
            ("a\0", BadByte(0)),
            ("a\x7f", BadByte(0x7f)),
            ("http://a", BadPort),
            ("a@b", BadByte(b'@')),
            ("a:http", BadPort),
            ("a:123456", BadPort),
            ("a:65536", BadPort),
            ("[::1]:99999", BadPort),
            ("shop\u{202e}moc.example", NotAscii),
            ("shop\u{200b}.example", NotAscii),
            ("shop\u{85}.example", NotAscii),
            ("a:80:80", BadPort),
            ("[::1", BadAddress),
            ("[::1]x", BadAddress),
            ("[]", BadAddress),
            ("[g::1]", BadAddress),
            ("bücher.example", NotAscii),
            ("*a.example", BadWildcard),
            ("a.*.example", BadWildcard),
            ("*.example.*", BadWildcard),
            ("*.*", BadWildcard),
            ("**", BadWildcard),
            ("*.[::1]", BadPort),
            ("a:0", BadPort),
            ("a[b]", BadByte(b'[')),
            ("[::1].*", BadAddress),
        ] {
            assert_eq!(host(text), Err(fault), "{text:?}");
            assert!(!fault.to_string().is_empty());
        }
        let long = "a".repeat(65);
        assert_eq!(host(&long), Err(TooLong { length: 65, max: 64 }));
        assert!(host(&format!("{}:8080", "a".repeat(64))).is_ok(), "the port does not count");
    }

    #[test]
    fn a_text_key_is_unchanged() {
        let text = |text: &[u8]| Key::parse(KeyKind::Text, text, 8);
        let key = text(b"*.Ab:80.").unwrap();
        assert_eq!((key.shape(), key.as_str()), (Shape::Exact, "*.Ab:80."));
        assert_eq!(text(b"*").unwrap().shape(), Shape::All);
        assert_eq!(text(b"").unwrap().as_str(), "");
        assert!(text(b"").unwrap().covers(b"") && !text(b"").unwrap().covers(b"a"));
        assert_eq!(text(b"a\n"), Err(KeyFault::BadByte(b'\n')));
        assert_eq!(text(b"\xff"), Err(KeyFault::NotUtf8));
        assert_eq!(text(b"123456789"), Err(KeyFault::TooLong { length: 9, max: 8 }));
    }

    #[test]
    fn a_request_is_normalised_like_a_key() {
        let mut room = Vec::new();
        for spelling in
            ["example.com", "EXAMPLE.com:80", "example.com.", "[::1]:80", "a.B.c.:1", "[2001:DB8::1]"]
        {
            let key = Key::parse(KeyKind::Host, spelling.as_bytes(), 64).unwrap();
            let normalised = normalise(KeyKind::Host, spelling.as_bytes(), &mut room);
            assert_eq!(normalised, key.as_str().as_bytes(), "{spelling}");
        }
        for nonsense in ["a/b.example.com", "..", "", "x:y", "[::1]]"] {
            assert_eq!(normalise(KeyKind::Host, nonsense.as_bytes(), &mut room), b"", "{nonsense}");
        }
        assert_eq!(normalise(KeyKind::Text, b"A:1.", &mut room), b"A:1.");
    }

    #[test]
    fn normalising_again_allocates_nothing() {
        let mut room = Vec::with_capacity(32);
        let before = (room.as_ptr(), room.capacity());
        for _ in 0..3 {
            normalise(KeyKind::Host, b"WWW.EXAMPLE.COM:8080", &mut room);
        }
        assert_eq!((room.as_ptr(), room.capacity()), before);
    }

    #[test]
    fn wildcards_cover_as_in_nginx() {
        let key = |text: &str| Key::parse(KeyKind::Host, text.as_bytes(), 64).unwrap();
        assert!(key("*.a.b").covers(b"x.a.b") && key("*.a.b").covers(b"y.x.a.b"));
        assert!(
            !key("*.a.b").covers(b"a.b") && !key("*.a.b").covers(b"xa.b") && !key("*.a.b").covers(b".a.b")
        );
        assert!(key("a.*").covers(b"a.b.c") && !key("a.*").covers(b"a") && !key("a.*").covers(b"a."));
        assert!(key("*").covers(b"") && key("a").covers(b"a") && !key("a").covers(b"b"));
        let order = ["a.b", "*.a.b.c", "*.b", "a.b.c.*", "a.*", "*"].map(key);
        for pair in order.windows(2) {
            assert!(pair[0].precedes(&pair[1]) && !pair[1].precedes(&pair[0]), "{pair:?}");
        }
    }
}
