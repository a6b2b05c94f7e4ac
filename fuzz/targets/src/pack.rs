//! A corpus as one file, as it is kept in the repository.
//!
//! A first line that no text begins with is followed by each case after its length in four bytes, least significant first.
//! Cases are sorted, so that the same corpus gives the same file.

/// The cases of one target.
pub type Pack = Vec<Vec<u8>>;

/// The first bytes of a pack.
const MARK: &[u8] = b"\xffpointsman corpus 1\n";

/// Encodes a pack; duplicate cases are kept once.
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

/// Decodes a pack; `None` if it is broken.
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
