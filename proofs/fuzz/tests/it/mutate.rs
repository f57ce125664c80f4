//! Mutations of a corpus by a seed.

use fastrand::Rng;

/// Pieces that mean something in one of the formats.
const PIECES: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "0.1",
    "\\ud800",
    "\\u0000",
    "\u{0}",
    "\u{feff}",
    "\u{1F600}",
    "\n",
    "\r\n",
    " ",
    "{}",
    "[]",
    "\"task\"",
    "\"params\"",
    "..",
    "/",
    "(",
    ")",
    "=",
    "#",
];

/// Makes inputs from a corpus. The name of the target is the seed.
pub struct Mutator(Rng);

impl Mutator {
    pub fn new(name: &str) -> Self {
        let seed =
            name.bytes().fold(0x7761_7371, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Self(Rng::with_seed(seed))
    }

    /// Returns one input of the corpus, with one to eight changes.
    pub fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let rng = &mut self.0;
        let mut bytes = corpus[rng.usize(..corpus.len())].clone();
        for _ in 0..rng.usize(1..=8) {
            let at = rng.usize(..=bytes.len());
            let end = (at + rng.usize(..=16)).min(bytes.len());
            match rng.u8(..8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
                1 if at < bytes.len() => bytes[at] = rng.u8(..),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let piece = bytes[at..end].repeat(rng.usize(1..=4));
                    bytes.splice(at..at, piece);
                }
                4 => bytes.truncate(at),
                5 => {
                    let other = &corpus[rng.usize(..corpus.len())];
                    let from = rng.usize(..=other.len());
                    bytes.splice(at..end, other[from..].iter().copied().take(64));
                }
                6 => {
                    let digits = rng.u64(..).to_string();
                    bytes.splice(at..end, digits.into_bytes());
                }
                _ => {
                    let piece = PIECES[rng.usize(..PIECES.len())];
                    bytes.splice(at..at, piece.bytes());
                }
            }
        }
        bytes
    }
}
