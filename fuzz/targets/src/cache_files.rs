//! The beginning of a kept response's file: `cache::StoredMeta`.
//!
//! What is read must be what was written: a response made of the input comes back whole, whatever is cut or changed is refused,
//! and bytes with right checksums over any content are refused or written anew as they are.

use crate::dice::Dice;
use cache::{KeyHash, MAX_META_BYTES, MetaFault, Provenance, RECORD_BYTES, StoredMeta, Times};
use xxhash_rust::xxh3::xxh3_64;

/// Where the record's checksum is, and before it that of the texts.
const SUM: usize = RECORD_BYTES - 8;
const TEXTS_SUM: usize = 8 + 8 * 4 + 16 + 8 * 8;

pub(crate) fn check(data: &[u8]) {
    let mut dice = Dice::of(data);
    read(data);
    if let Some(signed) = signed(data) {
        read(&signed);
    }
    written(data, &mut dice);
}

/// Reads bytes as a file's beginning comes: first some, then as many as are asked for.
fn read(bytes: &[u8]) {
    let whole = StoredMeta::read(bytes);
    if let Err(MetaFault::Short(needed)) = whole {
        assert!(needed > bytes.len() && needed <= MAX_META_BYTES, "{needed} bytes are asked for");
    }
    if let Ok(meta) = &whole {
        let texts = meta.texts();
        let again = [meta.record(&texts), texts].concat();
        assert_eq!(again.len() as u64, meta.body_start());
        assert_eq!(StoredMeta::read(&again).as_ref(), Ok(meta), "another one when it is written anew");
        let _ = (meta.fits(bytes.len() as u64), meta.is_named(meta.variant));
    }
    if bytes.len() > RECORD_BYTES {
        match StoredMeta::read(&bytes[..RECORD_BYTES]) {
            Ok(meta) => assert_eq!(Ok(meta), whole, "it has no texts"),
            Err(MetaFault::Short(needed)) if needed <= bytes.len() => {
                assert_eq!(StoredMeta::read(&bytes[..needed]), whole, "more bytes than are asked for");
            }
            Err(MetaFault::Short(_)) => assert!(matches!(whole, Err(MetaFault::Short(_)))),
            Err(fault) => assert_eq!(whole, Err(fault)),
        }
    }
}

/// Puts right checksums over any content.
fn signed(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    if bytes.len() < RECORD_BYTES {
        return None;
    }
    bytes[..8].copy_from_slice(b"pmcache1");
    let sum = xxh3_64(&bytes[RECORD_BYTES..]).to_le_bytes();
    bytes[TEXTS_SUM..TEXTS_SUM + 8].copy_from_slice(&sum);
    let sum = xxh3_64(&bytes[..SUM]).to_le_bytes();
    bytes[SUM..RECORD_BYTES].copy_from_slice(&sum);
    Some(bytes)
}

/// Writes a response made of the input, and reads it whole, cut and changed.
fn written(data: &[u8], dice: &mut Dice) {
    let mut rest = data;
    let mut text = |dice: &mut Dice| {
        let (taken, left) = rest.split_at(dice.below(rest.len() + 1));
        rest = left;
        taken.to_vec()
    };
    let mut origin = Provenance::default();
    for _ in 0..dice.below(3) {
        let (switch, key, target) = (text(dice), text(dice), text(dice));
        origin.push(&switch, &key, &target, dice.below(1 << 30) as u64);
    }
    let number = |dice: &mut Dice| dice.below(1 << 40) as u64;
    let meta = StoredMeta {
        key: text(dice),
        origin,
        vary: text(dice),
        variant: KeyHash::of(data),
        etag: text(dice),
        last_modified_s: (dice.below(2) == 0).then(|| number(dice)),
        head: text(dice),
        times: Times {
            date_s: number(dice),
            valid_until_s: number(dice),
            stale_updating_s: number(dice),
            stale_error_s: number(dice),
        },
        is_bodiless: dice.below(2) == 0,
        body_len: number(dice),
        body_hash: number(dice),
        boot: number(dice),
    };
    let texts = meta.texts();
    let mut bytes = [meta.record(&texts), texts].concat();
    if bytes.len() > MAX_META_BYTES {
        return;
    }
    assert_eq!(StoredMeta::read(&bytes), Ok(meta));
    let cut = dice.below(bytes.len());
    assert!(StoredMeta::read(&bytes[..cut]).is_err(), "cut after {cut} bytes");
    let at = dice.below(bytes.len());
    bytes[at] ^= 1 << dice.below(8);
    assert!(StoredMeta::read(&bytes).is_err(), "byte {at} was changed");
}
