//! Inputs that are nearly sound: samples with some of their bytes changed. They are for readers that the fuzzer cannot be built with, because
//! they stand beside libtorch or DataFusion; tests include this file.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Seconds that a reader is fed for, unless `FUZZ_SECONDS` says it.
const SECONDS: u64 = 60;
/// Changes of an input at most.
const MOST_CHANGES: u64 = 6;
/// Bytes of an input at most.
const MOST_BYTES: usize = 1 << 16;
/// Numbers at which sizes go wrong, in as many bytes as are taken of them.
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end) as usize
    }

    /// One of them.
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64)]
    }
}

/// One of the samples, changed.
fn changed(dice: &mut Dice, samples: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = dice.of(samples).clone();
    for _ in 0..1 + dice.below(MOST_CHANGES) {
        let at = dice.below(bytes.len() as u64 + 1);
        let longest = *dice.of(&[8, 200]);
        let length = 1 + dice.below(longest);
        let end = (at + length).min(bytes.len());
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let number = dice.of(&NUMBERS).to_le_bytes();
                let number = &number[..*dice.of(&[1, 2, 4, 8])];
                bytes.splice(at..(at + number.len()).min(bytes.len()), number.iter().copied());
            }
            5 if !words.is_empty() => {
                drop(bytes.splice(at..if dice.below(2) == 0 { at } else { end }, dice.of(words).bytes()))
            }
            6 => {
                // A piece of any sample, in the place of another piece or between two.
                let other = dice.of(samples);
                let from = dice.below(other.len() as u64 + 1);
                let piece = other[from..(from + length).min(other.len())].to_vec();
                bytes.splice(at..if dice.below(2) == 0 { at } else { end }, piece);
            }
            _ => {
                let piece = bytes[at..end].to_vec();
                (0..1 + dice.below(4)).for_each(|_| drop(bytes.splice(at..at, piece.iter().copied())));
            }
        }
        bytes.truncate(MOST_BYTES);
    }
    bytes
}

/// Feeds a reader with changed samples, for [`SECONDS`]. What it panics at is written to a file.
pub fn feed(what: &str, samples: &[Vec<u8>], words: &[&str], read: impl Fn(&[u8])) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let (mut dice, start, mut count, mut slowest) = (Dice(1), Instant::now(), 0_u64, Duration::ZERO);
    samples.iter().for_each(|sample| read(sample));
    while start.elapsed() < Duration::from_secs(seconds) {
        let bytes = changed(&mut dice, samples, words);
        let begun = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            let path = std::env::temp_dir().join(format!("tessera-{what}-{count}"));
            let written = std::fs::write(&path, &bytes);
            eprintln!("{what}: the input is in {} ({written:?})", path.display());
            resume_unwind(panic);
        }
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    println!("{what}: {count} inputs in {seconds} s, the slowest took {} ms", slowest.as_millis());
    assert!(slowest < Duration::from_secs(10), "an input took {slowest:?}");
}
