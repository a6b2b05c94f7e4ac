//! A corpus as one file: the way it is kept in the repository.
//!
//! Owns the form: a first line that no text begins with, then each case after its length in four bytes, least
//! significant first. Cases are sorted, so that the same corpus is the same file.

/// The cases of one target.
pub type Pack = Vec<Vec<u8>>;

/// The first bytes of a pack.
const MARK: &[u8] = b"\xffpointsman corpus 1\n";

/// A pack as bytes; cases that are there twice are kept once.
pub fn write_pack(cases: &[Vec<u8>]) -> Vec<u8> {
    let mut cases: Vec<&Vec<u8>> = cases.iter().collect();
    cases.sort_by_key(|case| (case.len(), *case));
    cases.dedup();
    let mut out = MARK.to_vec();
    for case in cases {
        out.extend_from_slice(&(case.len() as u32).to_le_bytes());
        out.extend_from_slice(case);
    }
    out
}

/// The cases of a pack; none if it is no pack, or a broken one.
pub fn read_pack(bytes: &[u8]) -> Option<Pack> {
    let mut rest = bytes.strip_prefix(MARK)?;
    let mut cases = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (case, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        cases.push(case.to_vec());
        rest = after;
    }
    Some(cases)
}
