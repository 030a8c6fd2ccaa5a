//! Questions to the catalog. Each is answered from an index, in order, without a scan of the rest.

use std::sync::Arc;

use super::{Catalog, CatalogCheck, CatalogNode, Health, ServiceInstance};

/// An instance with everything that decides whether it is handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The node it is on.
    pub node: Arc<CatalogNode>,
    /// The instance.
    pub service: Arc<ServiceInstance>,
    /// The node's checks, then the instance's own.
    pub checks: Vec<Arc<CatalogCheck>>,
}

impl Instance {
    /// The worst of all checks; passing if there are none.
    pub fn health(&self) -> Health {
        self.checks.iter().map(|check| check.status).max().unwrap_or(Health::Passing)
    }

    /// The address to connect to: the instance's own, or else the node's.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }
}

impl Catalog {
    /// The index of the last change.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The index of the last change of a node.
    pub fn nodes_index(&self) -> u64 {
        self.nodes_index
    }

    /// The index of the last change of which service names and tags there are. Health, addresses
    /// and the number of instances leave it as it is, so that whoever watches the names sleeps.
    pub fn names_index(&self) -> u64 {
        self.names_index
    }

    /// The index of the last change that concerns a service name; zero if it never existed.
    pub fn service_index(&self, name: &str) -> u64 {
        self.service_index.get(name).copied().unwrap_or(0)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<CatalogNode>> {
        self.nodes.values()
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&Arc<CatalogNode>> {
        self.nodes.get(name)
    }

    /// All service instances, by node and id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        self.services.values()
    }

    /// All checks, by node and id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<CatalogCheck>> {
        self.checks.values()
    }

    /// One check.
    pub fn check(&self, node: &str, id: &str) -> Option<&Arc<CatalogCheck>> {
        self.checks.get(&(Arc::from(node), Arc::from(id)))
    }

    /// One service instance.
    pub fn service(&self, node: &str, id: &str) -> Option<&Arc<ServiceInstance>> {
        self.services.get(&(Arc::from(node), Arc::from(id)))
    }

    /// The names of all services that have an instance, each once.
    pub fn service_names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for (name, _, _) in self.by_name.keys() {
            if names.last().is_none_or(|last| last != name) {
                names.push(Arc::clone(name));
            }
        }
        names
    }

    /// The services on one node.
    pub fn services_on(&self, node: &str) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        let node: Arc<str> = Arc::from(node);
        let from = (Arc::clone(&node), Arc::from(""));
        self.services.range(from..).take_while(move |(key, _)| key.0 == node).map(|(_, s)| s)
    }

    /// All checks on one node, of the node and of its services.
    pub fn checks_on(&self, node: &str) -> impl Iterator<Item = &Arc<CatalogCheck>> {
        let node: Arc<str> = Arc::from(node);
        let from = (Arc::clone(&node), Arc::from(""));
        self.checks.range(from..).take_while(move |(key, _)| key.0 == node).map(|(_, c)| c)
    }

    /// The checks of one service instance; with an empty id, the checks of the node itself.
    pub fn checks_of_service(
        &self,
        node: &str,
        service_id: &str,
    ) -> impl Iterator<Item = &Arc<CatalogCheck>> {
        let node: Arc<str> = Arc::from(node);
        let service_id: Arc<str> = Arc::from(service_id);
        let from = (Arc::clone(&node), Arc::clone(&service_id), Arc::from(""));
        self.by_service
            .range(from..)
            .take_while(move |(key, ())| key.0 == node && key.1 == service_id)
            .filter_map(|(key, ())| self.checks.get(&(Arc::clone(&key.0), Arc::clone(&key.2))))
    }

    /// The instances of a service without their nodes and checks, by node and id.
    pub fn services_named(&self, name: &str) -> impl Iterator<Item = &Arc<ServiceInstance>> {
        let name: Arc<str> = Arc::from(name);
        let from = (Arc::clone(&name), Arc::from(""), Arc::from(""));
        self.by_name
            .range(from..)
            .take_while(move |(key, ())| key.0 == name)
            .filter_map(|(key, ())| self.services.get(&(Arc::clone(&key.1), Arc::clone(&key.2))))
    }

    /// The instances of a service, healthy or not, by node and id.
    pub fn instances(&self, name: &str) -> Vec<Instance> {
        let name: Arc<str> = Arc::from(name);
        let from = (Arc::clone(&name), Arc::from(""), Arc::from(""));
        self.by_name
            .range(from..)
            .take_while(|(key, ())| key.0 == name)
            .filter_map(|(key, ())| self.instance(&key.1, &key.2))
            .collect()
    }

    /// One instance with its node and checks.
    pub fn instance(&self, node: &str, id: &str) -> Option<Instance> {
        let service = Arc::clone(self.service(node, id)?);
        let node = Arc::clone(self.node(node)?);
        let checks = self
            .checks_of_service(&node.name, "")
            .chain(self.checks_of_service(&node.name, id))
            .map(Arc::clone)
            .collect();
        Some(Instance { node, service, checks })
    }
}
