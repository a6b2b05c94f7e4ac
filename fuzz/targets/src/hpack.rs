//! HPACK: `http::h2::hpack`.
//!
//! Compares any bytes with themselves, coded by Huffman and decoded; a decoded string with its only code; and the fields of
//! a block with what the encoder makes of them, decoded again.

use http::h2::hpack::{HpackDecoder, HpackError, encode_field, huffman};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(
    decoder: &mut HpackDecoder,
    block: &[u8],
    scratch: &mut Vec<u8>,
) -> (Fields, Result<(), HpackError>) {
    let mut fields = Fields::new();
    let result = decoder.decode(block, scratch, |name, value| fields.push((name.to_vec(), value.to_vec())));
    (fields, result)
}

pub(crate) fn check(data: &[u8]) {
    let mut coded = Vec::new();
    huffman::encode(data, &mut coded);
    assert_eq!(coded.len(), huffman::encoded_len(data));
    let mut text = Vec::new();
    huffman::decode(&coded, &mut text).unwrap();
    assert_eq!(text, data, "coded and decoded");
    text.clear();
    if huffman::decode(data, &mut text).is_ok() {
        coded.clear();
        huffman::encode(&text, &mut coded);
        assert_eq!(coded, data, "a text has one code");
    }
    // Several blocks of one connection: the length of each is its first byte.
    let (mut one, mut other) = (HpackDecoder::default(), HpackDecoder::default());
    let (mut scratch, mut rest) = (vec![b'?'; 7], data);
    while let Some((len, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        let (fields, result) = decode(&mut one, block, &mut scratch);
        assert_eq!((&fields, &result), (&decode(&mut other, block, &mut Vec::new()).0, &result));
        // A field is named by one byte at least, and one of the table holds no more than the table.
        assert!(fields.len() <= block.len());
        assert!(fields.iter().all(|(name, value)| name.len() + value.len() <= 4096.max(2 * block.len())));
        let mut again = Vec::new();
        fields.iter().for_each(|(name, value)| encode_field(&mut again, None, name, value));
        let (back, whole) = decode(&mut HpackDecoder::default(), &again, &mut scratch);
        let lower = |(name, value): &(Vec<u8>, Vec<u8>)| (name.to_ascii_lowercase(), value.clone());
        assert_eq!((back, whole), (fields.iter().map(lower).collect(), Ok(())));
        if result.is_err() {
            return;
        }
    }
}
