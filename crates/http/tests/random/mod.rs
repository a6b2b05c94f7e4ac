//! Random requests, mostly good ones, the same in every run.

/// A small generator, so that failures repeat.
pub(crate) struct Xorshift(pub(crate) u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below the given one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns a text of up to so many pieces.
    #[allow(dead_code, reason = "not every test file makes texts of pieces")]
    pub(crate) fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// Returns a request that is mostly good, with some bytes changed, and no body.
#[allow(dead_code, reason = "not every test file asks for a lone head")]
pub(crate) fn request(random: &mut Xorshift) -> Vec<u8> {
    const LINES: [&str; 13] = [
        "GET / HTTP/1.1",
        "POST /a/../b%20c?d=e HTTP/1.1",
        "HEAD http://h.example:80/x HTTP/1.0",
        "GET //x/./y#z HTTP/1.1 ",
        "OPTIONS http://[::1]?q HTTP/1.1",
        "GET /old",
        "CONNECT h:443 HTTP/1.1",
        "X-ODD  /  HTTP/1.7",
        "GET /%zz HTTP/1.1",
        "GET / HTTP/3.0",
        "GET /a//b/%2e%2e/c%2Fd/.?x=%20&y HTTP/1.1",
        "GET /a/%2e./..%2f../b HTTP/1.1",
        "GET /long/path/that/fills/a/buffer/long/path/that/fills/a/buffer/long/path/that/fills/a/buffer/end HTTP/1.0",
    ];
    const FIELDS: [&str; 14] = [
        "Host: a.example",
        "host: B:80",
        "Content-Length: 10",
        "Transfer-Encoding: chunked",
        "Accept:*/*",
        "X-Empty:",
        "X-Spaces:    a  b   ",
        "bad_name: 1",
        "odd.name: 2",
        "NoColon",
        "Cookie: a=b; c=d",
        "Connection: keep-alive",
        "User-Agent: a value that needs more than one hundred bytes of any buffer it is put into, and then some more",
        "Content-Length: 010",
    ];
    // All lines with LF, each as it comes, or most of the time all with CR LF.
    let lone_lf = [usize::MAX, 3, 1][random.below(12).saturating_sub(9)];
    let end = |random: &mut Xorshift| if random.below(lone_lf) == 0 { "\n" } else { "\r\n" };
    let mut text = "\r\n".repeat(random.below(8) / 6);
    text += LINES[random.below(LINES.len())];
    text += end(random);
    for _ in 0..random.below(7) {
        text += FIELDS[random.below(FIELDS.len())];
        text += end(random);
    }
    text += end(random);
    let mut bytes = text.into_bytes();
    for _ in 0..random.below(10) / 7 {
        let at = random.below(bytes.len());
        bytes[at] = b"\r\n\0: \t/%.?#\x7f\xffA"[random.below(14)];
    }
    bytes
}

/// Returns a few requests with bodies, one behind the other, with some bytes or pieces changed.
#[allow(dead_code, reason = "not every test file sends bodies")]
pub(crate) fn messages(random: &mut Xorshift) -> Vec<u8> {
    const WHOLE: [&str; 8] = [
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: h\r\n\r\n1;a=b\r\nx\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
        "POST /e HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        "GET /f HTTP/1.1\nHost: h\n\n",
        "\r\nDELETE /g HTTP/1.1\r\nContent-Length: 0\r\nHost: h\r\nX: y z\r\n\r\n",
        "HEAD /h HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ];
    const PIECES: [&str; 16] = [
        "Content-Length: 5\r\n",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "X: y\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        ";",
        "\t",
        "GET /z HTTP/1.1\r\nHost: h\r\n\r\n",
        "\0",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(3) {
        bytes.extend_from_slice(WHOLE[random.below(WHOLE.len())].as_bytes());
    }
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = b"\r\n\0\t :;,0159afxX/+-"[random.below(19)],
            1 => drop(bytes.remove(at)),
            2 => drop(bytes.splice(at..at, PIECES[random.below(16)].bytes())),
            _ => {
                let line = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                drop(bytes.splice(line..line, PIECES[random.below(16)].bytes()));
            }
        }
    }
    bytes
}
