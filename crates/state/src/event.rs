//! What applying a command made happen, for those who act on it or show it.

use std::sync::Arc;

use cos_model::catalog::CatalogChange;
use cos_model::session::{LockDelay, Session};
use cos_model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, JobKey, NodeId, SessionId,
};

use crate::control_plane::Topic;

/// Something that happened at an index.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node was added or changed.
    NodeChanged(NodeId),
    /// A node was removed.
    NodeRemoved(NodeId),
    /// A job was added or changed.
    JobChanged(JobKey),
    /// A job was removed.
    JobRemoved(JobKey),
    /// An evaluation was added or changed.
    EvalChanged(Arc<Evaluation>),
    /// An evaluation was removed.
    EvalRemoved(EvalId),
    /// The scheduler placed or changed an allocation: its agent must know.
    AllocPlanned(Arc<Allocation>),
    /// An agent's report, or a health verdict, changed an allocation.
    AllocReported(Arc<Allocation>),
    /// An allocation was removed.
    AllocRemoved {
        /// The allocation.
        id: AllocId,
        /// The node it was on.
        node: NodeId,
    },
    /// A deployment was added or changed.
    DeploymentChanged(Arc<Deployment>),
    /// A deployment was removed.
    DeploymentRemoved(DeploymentId),
    /// The catalog changed.
    CatalogChanged(Arc<CatalogChange>),
    /// A key was written or deleted.
    KvChanged(Arc<str>),
    /// A session began or was renewed.
    SessionRenewed(Arc<Session>),
    /// A session ended.
    SessionEnded(SessionId),
    /// Keys of a session that ended cannot be locked for a while.
    LockDelayed(LockDelay),
    /// The scheduler's configuration changed.
    SchedulerConfigChanged,
    /// How the consensus group is looked after changed.
    AutopilotConfigChanged,
    /// Everything was replaced; whoever follows starts over.
    Restored,
    /// A join token or the certificate authority changed.
    TrustChanged,
}

impl Event {
    /// Whether a topic may have another index after this. `false` is certain.
    pub fn may_change(&self, topic: &Topic) -> bool {
        match self {
            Self::NodeChanged(_) | Self::NodeRemoved(_) => *topic == Topic::Nodes,
            Self::JobChanged(_) | Self::JobRemoved(_) => *topic == Topic::Jobs,
            Self::EvalChanged(_) | Self::EvalRemoved(_) => *topic == Topic::Evals,
            Self::AllocPlanned(_) | Self::AllocReported(_) | Self::AllocRemoved { .. } => {
                *topic == Topic::Allocs
            }
            Self::DeploymentChanged(_) | Self::DeploymentRemoved(_) => *topic == Topic::Deployments,
            Self::CatalogChanged(_) => matches!(topic, Topic::Catalog | Topic::Service(_)),
            Self::KvChanged(key) => {
                matches!(topic, Topic::Kv(prefix) if key.starts_with(&**prefix))
            }
            Self::SessionRenewed(_) | Self::SessionEnded(_) | Self::LockDelayed(_) => {
                *topic == Topic::Sessions
            }
            Self::SchedulerConfigChanged => *topic == Topic::SchedulerConfig,
            Self::AutopilotConfigChanged => *topic == Topic::AutopilotConfig,
            Self::Restored => true,
            Self::TrustChanged => false,
        }
    }
}
