//! Why a node was chosen, or none.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;

use super::nanos;

/// The record of one placement decision.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocMetric {
    nodes_evaluated: u32,
    nodes_filtered: u32,
    nodes_in_pool: u32,
    node_pool: String,
    nodes_available: BTreeMap<String, u32>,
    class_filtered: Option<BTreeMap<String, u32>>,
    constraint_filtered: Option<BTreeMap<String, u32>>,
    nodes_exhausted: u32,
    class_exhausted: Option<BTreeMap<String, u32>>,
    dimension_exhausted: Option<BTreeMap<String, u32>>,
    quota_exhausted: Option<Vec<String>>,
    resources_exhausted: Option<BTreeMap<String, u32>>,
    scores: Option<BTreeMap<String, f64>>,
    score_meta_data: Option<Vec<NodeScore>>,
    allocation_time: i64,
    coalesced_failures: u32,
}

/// One node's scores.
#[derive(Clone, Debug, Serialize)]
struct NodeScore {
    #[serde(rename = "NodeID")]
    node_id: String,
    #[serde(rename = "Scores")]
    scores: BTreeMap<String, f64>,
    #[serde(rename = "NormScore")]
    norm_score: f64,
}

impl From<&model::AllocMetric> for AllocMetric {
    fn from(metric: &model::AllocMetric) -> Self {
        let scores: Vec<NodeScore> = metric
            .scores
            .iter()
            .map(|score| NodeScore {
                node_id: score.node_id.to_string(),
                scores: score.scores.clone(),
                norm_score: score.normalized,
            })
            .collect();
        Self {
            nodes_evaluated: metric.nodes_evaluated,
            nodes_filtered: metric.nodes_filtered,
            nodes_in_pool: metric.nodes_in_pool,
            node_pool: metric.node_pool.clone(),
            nodes_available: metric.nodes_available.clone(),
            class_filtered: filled(&metric.class_filtered),
            constraint_filtered: filled(&metric.constraint_filtered),
            nodes_exhausted: metric.nodes_exhausted,
            class_exhausted: filled(&metric.class_exhausted),
            dimension_exhausted: filled(&metric.dimension_exhausted),
            quota_exhausted: None,
            resources_exhausted: None,
            scores: None,
            score_meta_data: (!scores.is_empty()).then_some(scores),
            allocation_time: nanos(metric.allocation_time),
            coalesced_failures: metric.coalesced_failures,
        }
    }
}

/// An empty map is null.
fn filled(counts: &BTreeMap<String, u32>) -> Option<BTreeMap<String, u32>> {
    (!counts.is_empty()).then(|| counts.clone())
}

/// What could not be placed, by group; null if everything could.
pub(crate) fn by_group(
    failed: &BTreeMap<String, model::AllocMetric>,
) -> Option<BTreeMap<String, AllocMetric>> {
    let shown: BTreeMap<_, _> =
        failed.iter().map(|(group, metric)| (group.clone(), AllocMetric::from(metric))).collect();
    (!shown.is_empty()).then_some(shown)
}
