//! Bugs that can be planted into what only the simulator has: the model of consensus and its disk.
//!
//! Bugs in shipped code are patches in `mutations/`, so that no trace of them is in the code.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A leader counts an entry as committed as soon as it has it itself.
    CommitWithoutQuorum,
    /// A server votes for everybody who asks, also twice in a term.
    DoubleVote,
    /// A record that was torn by a crash is taken for whole.
    TornTailAccepted,
    /// An entry is acknowledged before it is synced.
    UnsyncedAcknowledged,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::CommitWithoutQuorum,
        Self::DoubleVote,
        Self::TornTailAccepted,
        Self::UnsyncedAcknowledged,
    ];

    /// The name by which the command line knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommitWithoutQuorum => "commit-without-quorum",
            Self::DoubleVote => "double-vote",
            Self::TornTailAccepted => "torn-tail-accepted",
            Self::UnsyncedAcknowledged => "unsynced-acknowledged",
        }
    }

    /// The bug of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|planted| planted.name() == name)
    }
}
