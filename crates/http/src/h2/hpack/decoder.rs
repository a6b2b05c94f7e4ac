//! Decoding header blocks (RFC 7541 §3, §6).

use super::dynamic_table::DynamicTable;
use super::error::HpackError;
use super::static_table::ENTRIES;
use super::{huffman, integer};

/// The most that the dynamic table may take: the value that SETTINGS_HEADER_TABLE_SIZE has without being sent.
const TABLE_BYTES: usize = 4096;

/// The most that one block may decode to, in the count of RFC 7541 §4.1 (names and values, and 32 bytes for each field): eight
/// times the longest list that is taken. A byte on the wire can stand for a field of the whole table.
const BLOCK_BYTES: usize = 8 * 32 * 1024;

/// The decoder of one connection.
#[derive(Debug)]
pub struct HpackDecoder {
    table: DynamicTable,
    /// A whole byte of padding behind a string is taken for what it is.
    is_lenient: bool,
}

impl Default for HpackDecoder {
    fn default() -> HpackDecoder {
        HpackDecoder { table: DynamicTable::new(TABLE_BYTES), is_lenient: false }
    }
}

impl HpackDecoder {
    /// Creates one that lets a string in Huffman's code have a byte of padding, which RFC 7541 §5.2 forbids: nginx takes such heads
    /// from upstreams.
    pub fn lenient() -> HpackDecoder {
        HpackDecoder { is_lenient: true, ..HpackDecoder::default() }
    }

    /// Decodes a whole block, and hands each field to `sink` in order. `scratch` is memory for strings.
    ///
    /// # Errors
    /// The block is refused, or decodes to more than 256 KiB; the fields before the fault have been handed on.
    pub fn decode(
        &mut self,
        block: &[u8],
        scratch: &mut Vec<u8>,
        mut sink: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut at = 0;
        let mut may_resize = true;
        let mut left = BLOCK_BYTES;
        let mut sink = |name: &[u8], value: &[u8]| {
            left = left.checked_sub(name.len() + value.len() + 32).ok_or(HpackError::TooLong)?;
            sink(name, value);
            Ok(())
        };
        while let Some(first) = block.get(at) {
            if first & 0x80 != 0 {
                let (name, value) = self.entry(integer::read(block, &mut at, 7)?)?;
                sink(name, value)?;
            } else if first & 0x40 != 0 {
                self.literal(block, &mut at, 6, scratch, &mut sink)?;
            } else if first & 0x20 != 0 {
                let size = integer::read(block, &mut at, 5)?;
                if !may_resize {
                    return Err(HpackError::LateSizeUpdate);
                }
                if size > TABLE_BYTES {
                    return Err(HpackError::TableTooLarge);
                }
                self.table.resize(size);
                continue;
            } else {
                self.literal(block, &mut at, 4, scratch, &mut sink)?;
            }
            may_resize = false;
        }
        Ok(())
    }

    /// Reads a literal field; one with an index of six bits goes into the table.
    fn literal(
        &mut self,
        block: &[u8],
        at: &mut usize,
        bits: u32,
        scratch: &mut Vec<u8>,
        sink: &mut impl FnMut(&[u8], &[u8]) -> Result<(), HpackError>,
    ) -> Result<(), HpackError> {
        scratch.clear();
        let index = integer::read(block, at, bits)?;
        if index > 0 && bits < 6 {
            let value = string(block, at, scratch, self.is_lenient)?;
            let (name, _) = self.entry(index)?;
            return sink(name, value);
        }
        // A name of the table is copied, because its entry may have to make room for this one.
        match index {
            0 => read_string(block, at, scratch, self.is_lenient)?,
            index => scratch.extend_from_slice(self.entry(index)?.0),
        }
        let name_len = scratch.len();
        read_string(block, at, scratch, self.is_lenient)?;
        let (name, value) = scratch.split_at(name_len);
        sink(name, value)?;
        if bits == 6 {
            self.table.insert(name, value);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let before = index.checked_sub(1).ok_or(HpackError::InvalidIndex)?;
        match ENTRIES.get(before) {
            Some((name, value)) => Ok((name, value)),
            None => self.table.get(before - ENTRIES.len()).ok_or(HpackError::InvalidIndex),
        }
    }
}

/// Returns the bytes of a string as they are in the block, and whether they are in Huffman's code.
fn raw_string<'a>(block: &'a [u8], at: &mut usize) -> Result<(&'a [u8], bool), HpackError> {
    let is_coded = block.get(*at).ok_or(HpackError::Truncated)? & 0x80 != 0;
    let len = integer::read(block, at, 7)?;
    let bytes = block.get(*at..).and_then(|rest| rest.get(..len)).ok_or(HpackError::Truncated)?;
    *at += len;
    Ok((bytes, is_coded))
}

/// Appends what a string in Huffman's code decodes to.
fn decode_string(bytes: &[u8], out: &mut Vec<u8>, is_lenient: bool) -> Result<(), HpackError> {
    let before = out.len();
    if huffman::decode(bytes, out).is_ok() {
        return Ok(());
    }
    out.truncate(before);
    match bytes {
        [rest @ .., 0xff] if is_lenient => huffman::decode(rest, out).map_err(|_| HpackError::InvalidString),
        _ => Err(HpackError::InvalidString),
    }
}

/// Appends a string (RFC 7541 §5.2).
fn read_string(block: &[u8], at: &mut usize, out: &mut Vec<u8>, is_lenient: bool) -> Result<(), HpackError> {
    match raw_string(block, at)? {
        (bytes, true) => decode_string(bytes, out, is_lenient),
        (bytes, false) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
    }
}

/// Returns a string, from the block itself if it is not encoded.
fn string<'a>(
    block: &'a [u8],
    at: &mut usize,
    scratch: &'a mut Vec<u8>,
    is_lenient: bool,
) -> Result<&'a [u8], HpackError> {
    match raw_string(block, at)? {
        (bytes, true) => {
            decode_string(bytes, scratch, is_lenient)?;
            Ok(scratch)
        }
        (bytes, false) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn decode(decoder: &mut HpackDecoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut fields = Vec::new();
        decoder.decode(block, &mut Vec::new(), |name, value| {
            fields.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        })?;
        Ok(fields)
    }

    #[test]
    fn blocks_of_the_rfc_are_decoded() {
        // RFC 7541, appendices C.3 and C.4: the same three requests, plain and in Huffman's code.
        for blocks in [
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
        ] {
            let mut decoder = HpackDecoder::default();
            let decoded = blocks.map(|block| decode(&mut decoder, &bytes(block)).unwrap());
            assert_eq!(decoded[0][3], ":authority: www.example.com");
            assert_eq!(decoded[1][4], "cache-control: no-cache");
            assert_eq!(
                decoded[2][2..],
                [":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"]
            );
            assert_eq!(decoder.table.size(), 164);
        }
    }

    #[test]
    fn evictions_are_those_of_the_rfc() {
        // RFC 7541, appendix C.6: responses, with a table of 256 bytes.
        let mut decoder = HpackDecoder::default();
        decoder.table.resize(256);
        for (block, last, size) in [
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                "location: https://www.example.com",
                222,
            ),
            ("4883640effc1c0bf", "location: https://www.example.com", 222),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                215,
            ),
        ] {
            let fields = decode(&mut decoder, &bytes(block)).unwrap();
            assert_eq!(fields.last().unwrap(), last);
            assert_eq!(decoder.table.size(), size);
        }
    }

    #[test]
    fn name_of_an_entry_that_makes_room_is_kept() {
        let mut decoder = HpackDecoder::default();
        decoder.table.resize(64);
        let block = [b"\x40\x04name\x1a".as_slice(), &[b'a'; 26], b"\x7e\x1a", &[b'b'; 26]].concat();
        let fields = decode(&mut decoder, &block).unwrap();
        assert_eq!(fields[1], format!("name: {}", "b".repeat(26)));
        assert_eq!(decode(&mut decoder, b"\xbe").unwrap(), fields[1..]);
    }

    #[test]
    fn faulty_blocks_are_refused() {
        for (block, error) in [
            (&b"\x80"[..], HpackError::InvalidIndex),
            (b"\xbe", HpackError::InvalidIndex),
            (b"\xff\xff\xff\xff\x7f", HpackError::InvalidIndex),
            (b"\xff\x80\x80\x80\x80\x01", HpackError::HugeInteger),
            (b"\x40\x05name", HpackError::Truncated),
            (b"\x40\x04name", HpackError::Truncated),
            (b"\x00\x81\x00\x00", HpackError::InvalidString),
            (b"\x04\x81\x00", HpackError::InvalidString),
            (b"\x3f\xe2\x1f", HpackError::TableTooLarge),
            (b"\x82\x20", HpackError::LateSizeUpdate),
        ] {
            let result = decode(&mut HpackDecoder::default(), block);
            assert_eq!(result, Err(error), "{}", block.escape_ascii());
        }
        assert_eq!(decode(&mut HpackDecoder::default(), b"\x20\x3f\xe1\x1f").unwrap().len(), 0, "4096 again");
    }

    #[test]
    fn byte_of_padding_is_refused_unless_the_decoder_is_lenient() {
        // `application/grpc` has a code of whole bytes.
        let block = bytes("5f8c 1d75d0620d263d4c4d6564ff");
        let mut fields = Vec::new();
        let mut read = |mut decoder: HpackDecoder| {
            decoder.decode(&block, &mut Vec::new(), |_, value| fields.push(value.to_vec()))
        };
        assert_eq!(read(HpackDecoder::default()), Err(HpackError::InvalidString));
        assert_eq!(read(HpackDecoder::lenient()), Ok(()));
        assert_eq!(fields, [b"application/grpc"]);
        let two = bytes("5f8d 1d75d0620d263d4c4d6564ffff");
        let refused = HpackDecoder::lenient().decode(&two, &mut Vec::new(), |_, _| {});
        assert_eq!(refused, Err(HpackError::InvalidString));
    }

    #[test]
    fn bytes_that_stand_for_long_fields_end_the_block() {
        // A field of 3,904 bytes enters the table, and each byte behind it is that field again.
        let mut block = vec![0x40, 0x7f];
        let mut len = 3900 - 127;
        while len >= 128 {
            block.push((len % 128) as u8 | 0x80);
            len /= 128;
        }
        block.push(len as u8);
        block.extend([b'a'; 3900]);
        block.extend([1, b'v']);
        let fields = |more: usize| {
            let mut count = 0;
            let block = [&block[..], &vec![0xbe; more]].concat();
            let decoded = HpackDecoder::default().decode(&block, &mut Vec::new(), |_, _| count += 1);
            (decoded, count)
        };
        assert_eq!(fields(20), (Ok(()), 21));
        assert_eq!(fields(120_000), (Err(HpackError::TooLong), BLOCK_BYTES / (3901 + 32)));
    }
}
