//! A check of SQLite's write-ahead log before SQLite reads it.
//!
//! Owns: distinguishing a damaged log from one that was being written when the machine stopped. SQLite treats both alike
//! and drops everything after the first invalid frame; acknowledged commits would be lost silently. Must never: change a byte.
//!
//! Every commit of ours is synced before the next one begins, so at most one of them can be torn. If the log has two
//! or more commits of its own generation after the invalid frame, it was damaged.
//! The format is documented: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::io::{self, Read};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The condition of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It ends with its last commit, or with one that was being written.
    Sound,
    /// Commits follow an invalid frame.
    Damaged,
}

/// Checks a log.
///
/// # Errors
/// It cannot be read.
pub(super) fn look(mut log: impl Read) -> io::Result<Condition> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(Condition::Sound);
    }
    let magic = word(&header, 0);
    let swapped = magic == 0x377f_0682;
    let page = word(&header, 8) as usize;
    let sum = checksum(swapped, (0, 0), &header[..24]);
    let fits = (magic | 1) == 0x377f_0683
        && page.is_power_of_two()
        && (512..=65536).contains(&page)
        && sum == (word(&header, 24), word(&header, 28));
    // Without a header that fits SQLite ignores the log. It is written and synced before the first frame.
    let mut frame = vec![0; FRAME_HEADER + if fits { page } else { 4096 }];
    if !fits {
        return Ok(if fill(&mut log, &mut frame)? { Condition::Damaged } else { Condition::Sound });
    }
    let salts = (word(&header, 16), word(&header, 20));
    let mut sum = Some(sum);
    let mut commits_after = 0;
    while fill(&mut log, &mut frame)? {
        let own = (word(&frame, 8), word(&frame, 12)) == salts;
        let is_commit = word(&frame, 4) != 0;
        sum = sum.and_then(|before| {
            let first = checksum(swapped, before, &frame[..8]);
            let whole = checksum(swapped, first, &frame[FRAME_HEADER..]);
            (own && whole == (word(&frame, 16), word(&frame, 20))).then_some(whole)
        });
        if sum.is_none() && own && is_commit {
            commits_after += 1;
        }
    }
    Ok(if commits_after >= 2 { Condition::Damaged } else { Condition::Sound })
}

/// False at the end, also if it comes early.
fn fill(log: &mut impl Read, state: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(state) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Returns the running checksum over words of 32 bits; `swapped` is the least significant byte first.
fn checksum(swapped: bool, (mut a, mut b): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let (mut x, mut y) = (word(pair, 0), word(pair, 4));
        if swapped {
            (x, y) = (x.swap_bytes(), y.swap_bytes());
        }
        a = a.wrapping_add(x).wrapping_add(b);
        b = b.wrapping_add(y).wrapping_add(a);
    }
    (a, b)
}
