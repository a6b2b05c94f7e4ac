//! What a socket has read and the script has not taken, and the piece that the script wants of it.

use super::Until;
use std::ops::Range;

/// The bytes that a script wants to read.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// A line, without its end and without carriage returns.
    Line,
    /// Everything up to the peer's end.
    All,
    /// So many bytes.
    Bytes(usize),
    /// The bytes that are there, at most this number.
    Any(usize),
    /// Everything up to a pattern.
    Until(Box<Until>),
}

/// How far a wanted piece has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is there.
    Done,
    /// More must be read first.
    More,
    /// The peer ended before.
    Ended,
}

/// Where the bytes of an answer are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Buffer(Range<usize>),
    Taken,
}

/// The largest buffer that is kept between two reads.
const KEPT: usize = 64 << 10;

/// How much is made room for at once when so much is wanted.
const ROOM_AT_ONCE: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Input {
    /// All of it is initialized; what was read and not taken is `start..end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to where no end of a line was found.
    scanned: usize,
    taken: Vec<u8>,
    pub(super) wanted: Wanted,
    answer: Answer,
    /// The peer has ended.
    pub(super) has_ended: bool,
}

impl Default for Input {
    fn default() -> Input {
        Input {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            scanned: 0,
            taken: Vec::new(),
            wanted: Wanted::Line,
            answer: Answer::Buffer(0..0),
            has_ended: false,
        }
    }
}

impl Input {
    /// Returns true if bytes were read that the script has not taken.
    pub(super) fn has_unread(&self) -> bool {
        self.start < self.end
    }

    /// Returns how many bytes of memory it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.taken.capacity()
    }

    /// Begins a piece.
    pub(super) fn begin(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        self.taken.clear();
        self.scanned = self.start;
        if self.start == self.end {
            (self.start, self.end, self.scanned) = (0, 0, 0);
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        }
        if self.taken.capacity() > KEPT {
            self.taken = Vec::new();
        }
    }

    /// Looks for the end of the piece in what was read.
    pub(super) fn advance(&mut self) -> Progress {
        let here = self.end - self.start;
        let len = match &mut self.wanted {
            Wanted::Line => match memchr::memchr(b'\n', &self.bytes[self.scanned..self.end]) {
                Some(at) => return self.take_line(self.scanned + at),
                None => {
                    self.scanned = self.end;
                    None
                }
            },
            Wanted::All => self.has_ended.then_some(here),
            Wanted::Bytes(count) => (here >= *count).then_some(*count),
            Wanted::Any(most) => (here > 0).then_some(here.min(*most)),
            Wanted::Until(until) => {
                let (used, ended) = until.feed(&self.bytes[self.start..self.end], &mut self.taken);
                self.start += used;
                if ended {
                    self.answer = Answer::Taken;
                    return Progress::Done;
                }
                None
            }
        };
        match len {
            Some(len) => {
                self.answer = Answer::Buffer(self.start..self.start + len);
                self.start += len;
                Progress::Done
            }
            None if self.has_ended => Progress::Ended,
            None => Progress::More,
        }
    }

    fn take_line(&mut self, newline: usize) -> Progress {
        self.answer = self.line(self.start..newline);
        self.start = newline + 1;
        Progress::Done
    }

    /// Returns a line's text without carriage returns.
    fn line(&mut self, range: Range<usize>) -> Answer {
        let text = &self.bytes[range.clone()];
        match memchr::memchr(b'\r', text) {
            None => Answer::Buffer(range),
            Some(at) if at + 1 == text.len() => Answer::Buffer(range.start..range.end - 1),
            Some(_) => {
                self.taken.clear();
                self.taken.extend(text.iter().filter(|byte| **byte != b'\r'));
                Answer::Taken
            }
        }
    }

    /// Ends the piece before its end: the answer is what there is of it.
    pub(super) fn give_up(&mut self) {
        let rest = self.start..self.end;
        self.start = self.end;
        self.answer = match self.wanted {
            Wanted::Line => self.line(rest),
            Wanted::Until(_) => Answer::Taken,
            _ => Answer::Buffer(rest),
        };
    }

    /// Returns the answer's bytes.
    pub(super) fn answer(&self) -> &[u8] {
        match &self.answer {
            Answer::Buffer(range) => &self.bytes[range.clone()],
            Answer::Taken => &self.taken,
        }
    }

    /// Returns the room for the next read, which takes `size` bytes at a time, and by how many bytes the buffer grew. It
    /// may grow by `most`; `None` if that is too little.
    pub(super) fn room(&mut self, size: usize, most: usize) -> Option<&mut [u8]> {
        let size = size.max(1);
        if self.start == self.end {
            (self.start, self.end, self.scanned) = (0, 0, 0);
        }
        if self.bytes.len() - self.end < size.min(1024) {
            let start = self.start;
            self.bytes.copy_within(start..self.end, 0);
            self.scanned -= start.min(self.scanned);
            (self.start, self.end) = (0, self.end - start);
        }
        if self.bytes.len() - self.end < size.min(1024) {
            let wanted = match self.wanted {
                Wanted::Bytes(count) => count.saturating_sub(self.end).min(ROOM_AT_ONCE),
                _ => 0,
            };
            let more = self.bytes.len().max(size).max(wanted).min(most);
            if more == 0 {
                return None;
            }
            self.bytes.resize(self.bytes.len() + more, 0);
        }
        let room = &mut self.bytes[self.end..];
        // What there is is what one read has taken.
        let len = if matches!(self.wanted, Wanted::Any(_)) { room.len().min(size) } else { room.len() };
        Some(&mut room[..len])
    }

    /// Returns the room for a datagram.
    pub(super) fn datagram_room(&mut self, size: usize) -> &mut [u8] {
        self.taken.resize(size, 0);
        &mut self.taken
    }

    /// Notes that a datagram of so many bytes is in its room: it is the answer.
    pub(super) fn take_datagram(&mut self, count: usize) {
        self.taken.truncate(count);
        self.answer = Answer::Taken;
    }

    /// Notes that so many bytes were read into the room.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &mut Input, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let room = input.room(8, 1 << 20).unwrap();
            let count = room.len().min(left.len());
            room[..count].copy_from_slice(&left[..count]);
            input.filled(count);
            left = &left[count..];
        }
    }

    #[test]
    fn lines_lose_their_ends_and_carriage_returns() {
        let mut input = Input::default();
        input.begin(Wanted::Line);
        assert_eq!(input.advance(), Progress::More);
        read(&mut input, b"+OK\r\na\rb\r\n\nrest\r");
        for line in ["+OK", "ab", ""] {
            assert_eq!(input.advance(), Progress::Done);
            assert_eq!(input.answer(), line.as_bytes());
            input.begin(Wanted::Line);
        }
        assert_eq!(input.advance(), Progress::More);
        input.has_ended = true;
        assert_eq!(input.advance(), Progress::Ended);
        input.give_up();
        assert_eq!((input.answer(), input.has_unread()), (&b"rest"[..], false));
    }

    #[test]
    fn pieces_of_all_kinds() {
        let mut input = Input::default();
        input.begin(Wanted::Bytes(5));
        read(&mut input, b"abc");
        assert_eq!(input.advance(), Progress::More);
        read(&mut input, b"defghijk");
        assert_eq!((input.advance(), input.answer()), (Progress::Done, &b"abcde"[..]));
        input.begin(Wanted::Any(2));
        assert_eq!((input.advance(), input.answer()), (Progress::Done, &b"fg"[..]));
        input.begin(Wanted::Until(Box::new(Until::new(b"j", 0, false, 0))));
        assert_eq!((input.advance(), input.answer()), (Progress::Done, &b"hi"[..]));
        input.begin(Wanted::All);
        assert_eq!(input.advance(), Progress::More);
        input.has_ended = true;
        assert_eq!((input.advance(), input.answer()), (Progress::Done, &b"k"[..]));
        input.begin(Wanted::All);
        assert_eq!((input.advance(), input.answer()), (Progress::Done, &b""[..]));
    }

    #[test]
    fn the_buffer_grows_as_far_as_it_may() {
        let mut input = Input::default();
        input.begin(Wanted::All);
        assert_eq!(input.room(16, 8).unwrap().len(), 8);
        input.filled(8);
        assert!(input.room(16, 0).is_none());
    }
}
