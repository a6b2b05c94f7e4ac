//! Counters of one stretch of time, packed.
//!
//! Owns: the form in which windows are kept in memory. Must never: be written to disk, because it is not stable.
//!
//! A busy server has some fifty slots, so they are small: counts as LEB128 numbers, mostly of one byte, and of the
//! histograms only the buckets that are not empty, each as the distance from the last and its count.

use crate::counters::Counters;
use crate::histogram::Histogram;

/// Appends the packed form.
pub(crate) fn pack(counters: &Counters, into: &mut Vec<u8>) {
    let plain = [counters.ended, counters.errors, counters.received, counters.sent];
    for &number in plain.iter().chain(&counters.statuses) {
        put(into, number);
    }
    // Nearly always there is none of any kind.
    let kinds = counters.failures.iter().filter(|&&count| count != 0).count();
    put(into, kinds as u64);
    for (kind, &count) in counters.failures.iter().enumerate().filter(|&(_, &count)| count != 0) {
        put(into, kind as u64);
        put(into, count);
    }
    for histogram in [&counters.connect, &counters.first_byte, &counters.response] {
        pack_histogram(histogram, into);
    }
}

fn pack_histogram(histogram: &Histogram, into: &mut Vec<u8>) {
    put(into, histogram.buckets().count() as u64);
    if histogram.count() == 0 {
        return;
    }
    put(into, histogram.sum_us());
    put(into, histogram.max_us());
    let mut last = 0;
    for (bucket, count) in histogram.buckets() {
        put(into, (bucket - last) as u64);
        put(into, count);
        last = bucket;
    }
}

/// Adds packed counters to `counters`.
pub(crate) fn unpack(packed: &[u8], counters: &mut Counters) {
    let mut rest = packed;
    let Counters { ended, errors, received, sent, statuses, failures, .. } = counters;
    for number in [ended, errors, received, sent].into_iter().chain(statuses) {
        *number += take(&mut rest);
    }
    for _ in 0..take(&mut rest) {
        let (kind, count) = (take(&mut rest), take(&mut rest));
        if let Some(failure) = failures.get_mut(kind as usize) {
            *failure += count;
        }
    }
    for histogram in [&mut counters.connect, &mut counters.first_byte, &mut counters.response] {
        unpack_histogram(&mut rest, histogram);
    }
}

fn unpack_histogram(rest: &mut &[u8], histogram: &mut Histogram) {
    let buckets = take(rest);
    if buckets == 0 {
        return;
    }
    let (sum_us, max_us) = (take(rest), take(rest));
    histogram.add_sums(sum_us, max_us);
    let mut bucket = 0;
    for _ in 0..buckets {
        bucket += take(rest) as usize;
        let count = take(rest);
        histogram.add_bucket(bucket, count);
    }
}

fn put(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn take(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, after)) = rest.split_first() else { break };
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Dice, request_end, try_end};

    #[test]
    fn packed_counters_unpack_and_add_up() {
        let mut dice = Dice::new(5);
        for round in 0..300 {
            let (mut one, mut sum) = (Counters::default(), Counters::default());
            for _ in 0..2 {
                let mut part = Counters::default();
                for _ in 0..dice.below(200) {
                    if round % 2 == 0 {
                        part.try_ended(&try_end(&mut dice));
                    } else {
                        part.request_ended(&request_end(&mut dice));
                    }
                }
                let mut packed = Vec::new();
                pack(&part, &mut packed);
                unpack(&packed, &mut sum);
                one.merge(&part);
            }
            assert_eq!(one, sum);
        }
    }

    #[test]
    fn numbers_of_every_size_are_packed() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(&mut bytes, number);
                assert_eq!(take(&mut &bytes[..]), number);
            }
        }
    }

    #[test]
    fn a_quiet_second_is_small() {
        let mut counters = Counters::default();
        counters.try_ended(&crate::TryEnd { status: 200, response_us: Some(1_000), ..Default::default() });
        let mut packed = Vec::new();
        pack(&counters, &mut packed);
        assert!(packed.len() <= 24, "{}", packed.len());
    }
}
