//! An agent's changes of the catalog: proposed in order, those that wait together as one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cos_model::catalog::CatalogChange;
use cos_model::link::ToAgent;
use cos_platform::rpc::RpcError;
use cos_state::{Command, Reply};
use tokio::sync::mpsc;

use crate::shared::Shared;

/// The wait after a proposal that found no leader.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Changes that an agent asks for.
#[derive(Debug)]
pub(crate) struct Request {
    /// The number under which they are acknowledged.
    pub(crate) sequence: u64,
    /// The changes.
    pub(crate) changes: Vec<CatalogChange>,
}

/// Proposes an agent's changes until its stream ends.
pub(super) async fn run(
    shared: &Shared,
    mut requests: mpsc::Receiver<Request>,
    outbound: &mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    while let Some(first) = requests.recv().await {
        let mut batch = vec![first];
        while let Ok(next) = requests.try_recv() {
            batch.push(next);
        }
        let changes: Vec<CatalogChange> =
            batch.iter().flat_map(|request| request.changes.iter().cloned()).collect();
        let refused = propose(shared, changes).await;
        for (sequence, refused) in attribute(&batch, &refused) {
            super::send(outbound, &ToAgent::Done { sequence, refused }).await?;
        }
    }
    // Only the reading loop ends a stream.
    std::future::pending().await
}

/// Proposes until it is known what was refused; the same changes twice are the same changes.
async fn propose(shared: &Shared, changes: Vec<CatalogChange>) -> BTreeMap<u32, String> {
    loop {
        match shared.propose(Command::Catalog { changes: changes.clone() }).await {
            Ok(committed) => match committed.reply {
                Reply::Catalog(refused) => return refused,
                _ => return BTreeMap::new(),
            },
            Err(error) => {
                tracing::debug!(%error, "changes of the catalog not committed yet");
                tokio::time::sleep(RETRY_WAIT).await;
            }
        }
    }
}

/// Says which request each refusal belongs to, with positions counted within it.
fn attribute(
    batch: &[Request],
    refused: &BTreeMap<u32, String>,
) -> Vec<(u64, BTreeMap<u32, String>)> {
    let mut first = 0_u32;
    batch
        .iter()
        .map(|request| {
            let next =
                first.saturating_add(u32::try_from(request.changes.len()).unwrap_or(u32::MAX));
            let own = refused
                .range(first..next)
                .map(|(position, why)| (position - first, why.clone()))
                .collect();
            first = next;
            (request.sequence, own)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sizes` are the numbers of changes per request, `refused` positions over all of them.
    #[track_caller]
    fn check(sizes: &[usize], refused: &[u32], expected: &str) {
        let change = || CatalogChange::RemoveNode { node: "n".into() };
        let batch: Vec<Request> = sizes
            .iter()
            .zip(1..)
            .map(|(size, sequence)| Request {
                sequence,
                changes: std::iter::repeat_with(change).take(*size).collect(),
            })
            .collect();
        let refused = refused.iter().map(|position| (*position, String::new())).collect();
        let shown: Vec<String> = attribute(&batch, &refused)
            .into_iter()
            .map(|(sequence, own)| format!("{sequence}:{:?}", own.keys().collect::<Vec<_>>()))
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn a_refusal_is_told_to_the_request_it_belongs_to() {
        check(&[2, 1, 3], &[1, 2, 5], "1:[1] 2:[0] 3:[2]");
        check(&[0, 1], &[0], "1:[] 2:[0]");
        check(&[1], &[], "1:[]");
    }
}
