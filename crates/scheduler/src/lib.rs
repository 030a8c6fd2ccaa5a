//! The scheduler: what has to change so that a job is as its user asked?
//!
//! A plan is made in three steps. `reconcile` counts which instances are missing, superfluous or
//! outdated; `feasibility` says for each node whether it could take one more; `ranking` orders the
//! nodes that could. `planner` ties them together and writes down what was decided.
//!
//! # Invariants
//!
//! - **Pure and total.** The same [`Problem`] and the same ids give the same plan; there is no error
//!   to return, because everything that cannot be done is in the plan with its reason.
//! - **Exact.** Every feasible node is considered for every placement, not a sample.
//! - **Never over-committed.** What a plan places fits beside what occupies the node, whatever the
//!   plan stops: a stopped instance holds its room until its agent says that it is gone.
//! - **Idempotent.** A job that is as asked gets a plan that changes nothing.
//!
//! # Deliberately absent
//!
//! - Queueing, retrying and applying. The server does that, and the state machine re-checks.
//! - Preemption.

mod constraint;
mod demand;
mod difference;
mod draft;
mod evaluation;
mod feasibility;
mod generic;
mod glob;
mod names;
mod nodes;
mod planner;
mod ports;
mod presence;
mod problem;
mod ranking;
mod reconcile;
mod reschedule;
mod system;
mod tally;
#[cfg(test)]
mod testing;
mod words;

pub use planner::plan;
pub use problem::Problem;
