//! The names of what is measured, as Nomad names them.

/// Evaluations ready to be worked on.
pub(crate) const BROKER_READY: &str = "nomad.nomad.broker.total_ready";
/// Evaluations being worked on.
pub(crate) const BROKER_UNACKED: &str = "nomad.nomad.broker.total_unacked";
/// Evaluations behind another of the same job.
pub(crate) const BROKER_PENDING: &str = "nomad.nomad.broker.total_pending";
/// Evaluations that are not due yet.
pub(crate) const BROKER_WAITING: &str = "nomad.nomad.broker.total_waiting";
/// Evaluations that wait for room.
pub(crate) const BLOCKED: &str = "nomad.nomad.blocked_evals.total_blocked";
/// Nodes whose heartbeats are awaited.
pub(crate) const HEARTBEATS_ACTIVE: &str = "nomad.nomad.heartbeat.active";
/// Nodes that were taken down for silence.
pub(crate) const HEARTBEATS_MISSED: &str = "nomad.nomad.heartbeat.invalidate";
/// Seconds that the scheduler took for one evaluation.
pub(crate) const WORKER_SCHEDULER: &str = "nomad.nomad.worker.invoke_scheduler";
/// Seconds from proposing a plan to its outcome.
pub(crate) const PLAN_SUBMIT: &str = "nomad.nomad.plan.submit";
/// Nodes on which a part of a plan no longer fitted.
pub(crate) const PLAN_REJECTED: &str = "nomad.nomad.plan.node_rejected";
/// Seconds that applying entries took.
pub(crate) const FSM_APPLY: &str = "nomad.raft.fsm.apply";
/// Calls on the cluster's own port.
pub(crate) const RPC_REQUESTS: &str = "nomad.nomad.rpc.request";
/// Proposals that were forwarded to the leader.
pub(crate) const RPC_FORWARDED: &str = "nomad.nomad.rpc.forwarded";
/// Clients' writes that were turned away for want of room.
pub(crate) const TURNED_AWAY: &str = "cos.server.turned_away";
/// Times this server became leader.
pub(crate) const LEADER_GAINED: &str = "nomad.nomad.leader.gained";
