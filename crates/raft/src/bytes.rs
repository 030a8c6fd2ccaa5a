//! Reading and writing of our binary formats: little-endian numbers, lengths before contents.
//!
//! Reading never panics and never allocates more than the input is long, whatever the input.

use bytes::{Buf, Bytes};

/// The input ends before the value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ends too early")]
pub(crate) struct Truncated;

/// Appends values to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    target: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(target: &'a mut Vec<u8>) -> Self {
        Self { target }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.target.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.target.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.target.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.target.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes without their length.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.target.extend_from_slice(value);
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.raw(value);
    }

    /// How many of something follow.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).expect("what is encoded is bounded well below 4 GiB"));
    }

    /// A value that may be absent.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes values from a buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    source: Bytes,
}

impl Reader {
    pub(crate) fn new(source: Bytes) -> Self {
        Self { source }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.source.try_get_u8().map_err(|_short| Truncated)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.source.try_get_u32_le().map_err(|_short| Truncated)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Truncated> {
        self.source.try_get_u64_le().map_err(|_short| Truncated)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Truncated> {
        self.source.try_get_u128_le().map_err(|_short| Truncated)
    }

    /// Bytes whose length is known. They share the memory of the source.
    pub(crate) fn raw(&mut self, length: usize) -> Result<Bytes, Truncated> {
        if length > self.source.len() {
            return Err(Truncated);
        }
        Ok(self.source.split_to(length))
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Truncated> {
        let length = self.u32()? as usize;
        self.raw(length)
    }

    /// How many of something follow. Each takes a byte at least, so more than what is left is a
    /// lie, and nothing is allocated for it.
    pub(crate) fn count(&mut self) -> Result<usize, Truncated> {
        let count = self.u32()? as usize;
        if count > self.source.len() { Err(Truncated) } else { Ok(count) }
    }

    /// A value that may be absent.
    pub(crate) fn option<T, E: From<Truncated>>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if self.u8()? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// Whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.source.is_empty()
    }
}
