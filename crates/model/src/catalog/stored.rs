//! The catalog as it is stored and sent: without the indexes, which are made anew when it is read.
//!
//! So an index can never disagree with what it indexes, whoever wrote the bytes, and names are not
//! written three times.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogCheck, CatalogNode, ServiceInstance};

/// The written form of a catalog.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    index: u64,
    nodes: Vec<Arc<CatalogNode>>,
    services: Vec<Arc<ServiceInstance>>,
    checks: Vec<Arc<CatalogCheck>>,
    service_index: OrdMap<Arc<str>, u64>,
    /// Absent in what was written before these two were kept; then the last change of all counts.
    #[serde(default)]
    nodes_index: Option<u64>,
    #[serde(default)]
    names_index: Option<u64>,
}

impl From<Catalog> for Stored {
    fn from(catalog: Catalog) -> Self {
        Self {
            index: catalog.index,
            nodes: catalog.nodes.values().cloned().collect(),
            services: catalog.services.values().cloned().collect(),
            checks: catalog.checks.values().cloned().collect(),
            service_index: catalog.service_index,
            nodes_index: Some(catalog.nodes_index),
            names_index: Some(catalog.names_index),
        }
    }
}

impl From<Stored> for Catalog {
    fn from(stored: Stored) -> Self {
        let mut catalog = Self {
            index: stored.index,
            nodes_index: stored.nodes_index.unwrap_or(stored.index),
            names_index: stored.names_index.unwrap_or(stored.index),
            service_index: stored.service_index,
            ..Self::default()
        };
        for node in stored.nodes {
            catalog.nodes.insert(Arc::clone(&node.name), node);
        }
        for service in stored.services {
            catalog.link_service(&service);
            let key = (Arc::clone(&service.node), Arc::clone(&service.id));
            catalog.services.insert(key, service);
        }
        for check in stored.checks {
            catalog.link_check(&check);
            let key = (Arc::clone(&check.node), Arc::clone(&check.id));
            catalog.checks.insert(key, check);
        }
        catalog
    }
}
