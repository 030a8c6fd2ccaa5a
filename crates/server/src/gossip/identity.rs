//! Who a server is in gossip, and how that is written into packets.
//!
//! # Invariants
//!
//! - The gossip address names a member; of two identities with one address the greater generation
//!   is the newer and wins.
//! - A packet that cannot be read is refused, never half read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The tag that a member sets before it leaves on purpose.
pub(crate) const LEAVING: &str = "leaving";

/// A server in gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Where its gossip is reached.
    pub(crate) address: SocketAddr,
    /// Grows with each restart and each change of tags.
    pub(crate) generation: u64,
    /// Facts for others. Few and short: an identity occurs several times in a packet.
    pub(crate) tags: Arc<BTreeMap<String, String>>,
}

impl Identity {
    /// Names somebody of whom only the address is known.
    pub(crate) fn stranger(address: SocketAddr) -> Self {
        Self { address, generation: 0, tags: Arc::default() }
    }

    /// The same member with other tags.
    pub(crate) fn with_tags(&self, tags: BTreeMap<String, String>) -> Self {
        Self { generation: self.generation + 1, tags: Arc::new(tags), ..self.clone() }
    }

    /// A tag, or nothing.
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        // One that leaves must not come back by being told that it is gone.
        (!self.tags.contains_key(LEAVING))
            .then(|| Self { generation: self.generation + 1, ..self.clone() })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Writes headers and members as `MessagePack` behind a length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packets;

/// Why a packet cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    /// There is no room for it.
    #[error("packet is full")]
    Full,
    /// It ends too early.
    #[error("packet ends too early")]
    Short,
    /// It cannot be read.
    #[error("damaged packet")]
    Damaged(#[source] rmp_serde::decode::Error),
    /// It cannot be written.
    #[error("value cannot be written")]
    Unwritable(#[source] rmp_serde::encode::Error),
}

impl Codec<Identity> for Packets {
    type Error = PacketError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), PacketError> {
        put(header, buffer)
    }

    fn decode_header(&mut self, buffer: impl Buf) -> Result<Header<Identity>, PacketError> {
        take(buffer)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), PacketError> {
        put(member, buffer)
    }

    fn decode_member(&mut self, buffer: impl Buf) -> Result<Member<Identity>, PacketError> {
        take(buffer)
    }
}

fn put<T: Serialize>(value: &T, mut buffer: impl BufMut) -> Result<(), PacketError> {
    let bytes = rmp_serde::to_vec(value).map_err(PacketError::Unwritable)?;
    let length = u16::try_from(bytes.len()).map_err(|_too_long| PacketError::Full)?;
    if buffer.remaining_mut() < bytes.len() + size_of::<u16>() {
        return Err(PacketError::Full);
    }
    buffer.put_u16(length);
    buffer.put_slice(&bytes);
    Ok(())
}

fn take<T: DeserializeOwned>(mut buffer: impl Buf) -> Result<T, PacketError> {
    let length = usize::from(buffer.try_get_u16().map_err(|_short| PacketError::Short)?);
    if buffer.remaining() < length {
        return Err(PacketError::Short);
    }
    let bytes = buffer.copy_to_bytes(length);
    rmp_serde::from_slice(&bytes).map_err(PacketError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_packet_panics_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Packets.decode_header(&bytes[..]));
            drop(Packets.decode_member(&bytes[..]));
        }

        #[test]
        fn a_member_survives_the_wire(
            port in any::<u16>(),
            generation in any::<u64>(),
            tags in prop::collection::btree_map("[a-z]{1,6}", "[ -~]{0,20}", 0..6),
        ) {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let identity = Identity { address, generation, tags: Arc::new(tags) };
            let mut buffer = Vec::new();
            Packets.encode_member(&Member::alive(identity.clone()), &mut buffer).unwrap();
            let read = Packets.decode_member(&buffer[..]).unwrap();
            prop_assert_eq!(read.id(), &identity);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let identity = Identity::stranger(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut small = [0_u8; 4];
        let refused = Packets.encode_member(&Member::alive(identity), &mut small[..]);
        assert!(matches!(refused, Err(PacketError::Full)));
    }
}
