//! Which protocol a connection inside the cluster is for, as the handshake names it (ALPN).
//!
//! What is said on the wire is the same for both; they differ in who may say it. So a connection
//! that is not for its caller is refused as a whole, before a single method is looked at.
//!
//! # Invariants
//!
//! - A caller that names none of ours is refused. There is no fallback for callers that name none:
//!   no version was released that did not.

/// What a connection to a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What servers say to servers: consensus, and what they forward to each other.
    Servers,
    /// What agents say to servers, those included that ask to join.
    #[default]
    Agents,
}

impl Protocol {
    /// Its name in the handshake.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Servers => b"cos-server/1",
            Self::Agents => b"cos-agent/1",
        }
    }

    /// The one that is meant by a caller that offers these.
    pub(crate) fn chosen<'a>(offered: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let known = [Self::Servers, Self::Agents];
        let mut named = offered.filter_map(|name| known.into_iter().find(|it| it.alpn() == name));
        named.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_name_is_meant() {
        let check = |offered: &[&[u8]], expected| {
            assert_eq!(Protocol::chosen(offered.iter().copied()), expected, "{offered:?}");
        };
        check(&[], None);
        check(&[b"h2"], None);
        check(&[b"cos-server/2"], None);
        check(&[b"h2", b"cos-agent/1"], Some(Protocol::Agents));
        check(&[b"cos-server/1", b"cos-agent/1"], Some(Protocol::Servers));
    }
}
