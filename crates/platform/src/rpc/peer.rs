//! Who is at the other end of a connection, as far as its certificate proves it.

use std::net::SocketAddr;

use crate::tls::{Identity, Member};

/// How connections of the cluster's own protocol are secured.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// Not at all: the network is trusted as a whole.
    #[default]
    Plain,
    /// Both sides show certificates.
    Tls {
        /// The own ones.
        identity: Identity,
        /// Whether callers in the clear are served all the same, while a cluster is being changed
        /// over from one to the other.
        upgrading: bool,
    },
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From where it calls.
    pub address: SocketAddr,
    /// Who it is.
    pub who: Who,
}

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever it says: the connection is in the clear, where that is allowed.
    Trusted,
    /// Nobody: it showed no certificate.
    Stranger,
    /// One that knows the key that all agents share, and nothing more.
    Introduced,
    /// A member of the cluster.
    Member(Member),
}

impl Peer {
    /// A peer on a trusted network.
    pub fn trusted(address: SocketAddr) -> Self {
        Self { address, who: Who::Trusted }
    }
}
