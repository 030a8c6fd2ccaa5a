//! Going on without the majority that is lost for good.
//!
//! An operator names the servers that are left. Each of them ends its log with a membership of just
//! these, before it takes part again; then they elect the one with the longest log among them.
//!
//! Invariants: the entry is of a term in which nobody led, one above all that this server knows, so
//! that no other server can have another entry of that term at that place; what the log held stays,
//! acknowledged or not.
//!
//! Deliberately absent: any check that the others are really gone. Whoever recovers while they run
//! has two groups.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use cos_model::ServerId;
use openraft::impls::BasicNode;
use tokio::sync::oneshot;

use crate::bytes::Writer;
use crate::codec;
use crate::log::{Entry, Kind, Log, Mark, Vote};
use crate::types::Membership;

/// The group as it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Servers that vote, with their addresses.
    pub voters: BTreeMap<ServerId, String>,
    /// Servers that only follow.
    pub learners: BTreeMap<ServerId, String>,
}

/// Ends the log with the new membership.
pub(crate) async fn apply(log: &Log, own: ServerId, recovery: &Recovery) -> Result<(), String> {
    if recovery.voters.is_empty() {
        return Err("no server of the new group votes".to_owned());
    }
    if !recovery.voters.contains_key(&own) && !recovery.learners.contains_key(&own) {
        return Err(format!("this server ({own}) is none of the new group"));
    }
    let Some(last) = log.last() else {
        return Err("this server holds nothing that could be recovered".to_owned());
    };
    let voted = log.vote().map_or(0, |vote| vote.term);
    let mark = Mark { term: last.term.max(voted) + 1, index: last.index + 1 };
    let members = recovery.voters.iter().chain(&recovery.learners);
    let nodes: BTreeMap<ServerId, BasicNode> =
        members.map(|(id, address)| (*id, BasicNode::new(address))).collect();
    let voters: BTreeSet<ServerId> = recovery.voters.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes).map_err(|error| format!("{error:?}"))?;
    let mut payload = Vec::new();
    codec::write_membership(&mut Writer::new(&mut payload), &membership);
    let entry = Entry { mark, kind: Kind::Membership, payload: payload.into() };
    let vote = Vote { term: mark.term, candidate: own, granted: false };
    write(log, entry, vote).await.map_err(|error| error.to_string())?;
    tracing::warn!(
        voters = ?recovery.voters, index = mark.index, term = mark.term,
        "the consensus group is what an operator says that is left of it"
    );
    Ok(())
}

async fn write(log: &Log, entry: Entry, vote: Vote) -> io::Result<()> {
    // The vote first: an entry of a term that this server does not know would be none.
    log.save_vote(vote).await?;
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |outcome| {
        // The receiver waits below.
        drop(sender.send(outcome));
    });
    log.append(vec![entry], done).await?;
    receiver.await.map_err(io::Error::other)?
}
