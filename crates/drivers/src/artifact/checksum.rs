//! Checksums as go-getter writes them: `sha256:<hex>`, or the bare number, told by its length.

use std::fmt::Write as _;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::source::SourceError;

/// How a checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

/// What a file should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    /// How it is made.
    pub(super) algorithm: Algorithm,
    /// Lower-case hexadecimal digits.
    pub(super) hex: String,
}

/// A checksum in the making.
pub(super) enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

const ALGORITHMS: [(&str, Algorithm, usize); 4] = [
    ("md5", Algorithm::Md5, 32),
    ("sha1", Algorithm::Sha1, 40),
    ("sha256", Algorithm::Sha256, 64),
    ("sha512", Algorithm::Sha512, 128),
];

impl Checksum {
    /// Reads a checksum.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let bad = || SourceError::Checksum(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (algorithm, hex) = match lower.split_once(':') {
            Some(("file", _)) => return Err(SourceError::ChecksumFile),
            Some((name, hex)) => {
                let known = ALGORITHMS.iter().find(|(known, _, _)| *known == name);
                let (_, algorithm, digits) = known.ok_or_else(bad)?;
                ((*algorithm, *digits), hex)
            }
            None => {
                let known = ALGORITHMS.iter().find(|(_, _, digits)| *digits == lower.len());
                let (_, algorithm, digits) = known.ok_or_else(bad)?;
                ((*algorithm, *digits), lower.as_str())
            }
        };
        let (algorithm, digits) = algorithm;
        if hex.len() != digits || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl Hasher {
    /// Begins.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes a piece.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Ends, with lower-case hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                // Writing to a text cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        match self {
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_the_word_abc_are_as_published() {
        for (algorithm, want) in [
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), want, "{algorithm:?}");
        }
    }

    #[test]
    fn the_algorithm_is_named_or_told_by_the_length() {
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let algorithm = |text: &str| Checksum::parse(text).ok().map(|sum| sum.algorithm);
        assert_eq!(algorithm(md5), Some(Algorithm::Md5));
        assert_eq!(algorithm(&format!("MD5:{}", md5.to_uppercase())), Some(Algorithm::Md5));
        for bad in ["", "md5:12", "crc32:12345678", &format!("sha256:{md5}"), "md5:zz"] {
            assert_eq!(algorithm(bad), None, "{bad}");
        }
    }
}
