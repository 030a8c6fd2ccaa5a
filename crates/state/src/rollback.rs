//! The version that a failed rollout comes back to, for the server that watches rollouts and for
//! the user who fails one.

use std::sync::Arc;

use cos_model::{Deployment, Job};

use crate::State;

/// Chooses the newest stable version before the failed one, if it differs from what is registered.
/// The text ends the failed rollout's description, in the words that clients match on.
pub fn rollback<'a>(
    state: &'a State,
    deployment: &Deployment,
    registered: &Job,
) -> (String, Option<&'a Arc<Job>>) {
    let stable = state
        .job_versions(&deployment.job)
        .filter(|old| old.stable && old.version < deployment.job_version)
        .max_by_key(|old| old.version);
    match stable {
        None => (" - no stable job version to auto revert to".to_owned(), None),
        Some(old) if old.same_request(registered) => (
            format!(
                " - not rolling back to stable job version {} as current job has same \
                 specification",
                old.version
            ),
            None,
        ),
        Some(old) => (format!(" - rolling back to job version {}", old.version), Some(old)),
    }
}
