//! The catalog: changes that are asked for, and the part of it that follows from nodes.
//!
//! A client node is in the catalog under its name, with the check that says whether its agent is
//! alive, and as an instance of the service `nomad-client` with a check of its own.
//!
//! # Invariants
//!
//! - A name in the catalog belongs to the node that registered it last: an older node of the same
//!   name, down or collected later, does not touch it.
//! - A server under the same name, as in an agent that is both, stays when the client goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::Node;
use cos_model::catalog::{
    ALIVE_CHECK, CatalogChange, CatalogCheck, CatalogError, CatalogNode, Health, ServiceInstance,
};
use cos_model::node::NodeStatus;

use super::Step;
use crate::autopilot::AutopilotConfig;
use crate::command::{Reply, SchedulerConfig};
use crate::event::Event;

/// The service that every client node is an instance of.
const CLIENT_SERVICE: &str = "nomad-client";

/// The service that every server is an instance of.
const SERVER_SERVICE: &str = "nomad";

impl Step<'_> {
    pub(super) fn change_catalog(&mut self, changes: &[CatalogChange]) -> Reply {
        let mut refused = BTreeMap::new();
        for (position, change) in (0_u32..).zip(changes) {
            if let Err(error) = self.apply_to_catalog(change.clone()) {
                refused.insert(position, error.to_string());
            }
        }
        Reply::Catalog(refused)
    }

    pub(super) fn set_scheduler_config(&mut self, config: &SchedulerConfig) -> Reply {
        let old = &self.state.scheduler_config;
        let (create_index, modify_index) = (old.create_index, old.modify_index);
        let new = SchedulerConfig { create_index, modify_index, ..config.clone() };
        if new != *old {
            let create_index = if create_index == 0 { self.index } else { create_index };
            self.state.scheduler_config =
                SchedulerConfig { create_index, modify_index: self.index, ..new };
            self.state.tables.scheduler_config = self.index;
            self.events.push(Event::SchedulerConfigChanged);
        }
        Reply::Done
    }

    pub(super) fn set_autopilot_config(&mut self, config: &AutopilotConfig) -> Reply {
        let old = &self.state.autopilot_config;
        let (create_index, modify_index) = (old.create_index, old.modify_index);
        let new = AutopilotConfig { create_index, modify_index, ..config.clone() };
        // The first time counts, also if it sets nothing but defaults.
        if new != *old || create_index == 0 {
            let create_index = if create_index == 0 { self.index } else { create_index };
            self.state.autopilot_config =
                AutopilotConfig { create_index, modify_index: self.index, ..new };
            self.state.tables.autopilot_config = self.index;
            self.events.push(Event::AutopilotConfigChanged);
        }
        Reply::Done
    }

    /// Registers a node, or takes over its new address.
    pub(super) fn enter_catalog(&mut self, node: &Node) {
        let service = client_service(node);
        let earlier: Vec<Arc<str>> = self
            .state
            .catalog
            .services_on(&node.name)
            .filter(|known| &*known.name == CLIENT_SERVICE && known.id != service.id)
            .map(|known| Arc::clone(&known.id))
            .collect();
        let name: Arc<str> = Arc::clone(&service.node);
        self.change_own(CatalogChange::PutNode(catalog_node(node)));
        for id in earlier {
            self.change_own(CatalogChange::RemoveService { node: Arc::clone(&name), id });
        }
        self.change_own(CatalogChange::PutService(service));
        for check in [alive_check(node), client_check(node)] {
            self.change_own(CatalogChange::PutCheck(check));
        }
    }

    /// Says that a node can or cannot be reached.
    pub(super) fn set_alive_in_catalog(&mut self, node: &Node) {
        if self.owns_name(node) {
            for check in [alive_check(node), client_check(node)] {
                self.change_own(CatalogChange::PutCheck(check));
            }
        }
    }

    /// Removes a node and what it registered.
    pub(super) fn leave_catalog(&mut self, node: &Node) {
        if !self.owns_name(node) {
            return;
        }
        let name: Arc<str> = Arc::from(node.name.as_str());
        let is_server =
            self.state.catalog.services_on(&name).any(|known| &*known.name == SERVER_SERVICE);
        self.change_own(if is_server {
            CatalogChange::RemoveService { node: name, id: client_service_id(node) }
        } else {
            CatalogChange::RemoveNode { node: name }
        });
    }

    fn owns_name(&self, node: &Node) -> bool {
        self.state.catalog.service(&node.name, &client_service_id(node)).is_some()
    }

    fn change_own(&mut self, change: CatalogChange) {
        let done = self.apply_to_catalog(change);
        debug_assert!(done.is_ok(), "changes of a node are made in an order that cannot fail");
    }

    fn apply_to_catalog(&mut self, change: CatalogChange) -> Result<(), CatalogError> {
        if self.state.catalog.apply(self.index, &change)? {
            self.events.push(Event::CatalogChanged(Arc::new(change)));
        }
        Ok(())
    }
}

fn client_service_id(node: &Node) -> Arc<str> {
    Arc::from(format!("_nomad-client-{}-http", node.id))
}

fn catalog_node(node: &Node) -> CatalogNode {
    let addresses = ["lan", "lan_ipv4", "wan", "wan_ipv4"];
    CatalogNode {
        name: Arc::from(node.name.as_str()),
        id: node.id.to_string(),
        address: node.address.clone(),
        tagged_addresses: addresses.map(|name| (name.to_owned(), node.address.clone())).into(),
        meta: BTreeMap::from([("datacenter".to_owned(), node.datacenter.clone())]),
        create_index: 0,
        modify_index: 0,
    }
}

fn client_service(node: &Node) -> ServiceInstance {
    let (address, port) = split_address(&node.http_address);
    ServiceInstance {
        node: Arc::from(node.name.as_str()),
        id: client_service_id(node),
        name: Arc::from(CLIENT_SERVICE),
        tags: vec!["http".to_owned()],
        address,
        port,
        meta: BTreeMap::new(),
        tagged_addresses: BTreeMap::new(),
        weight_passing: 1,
        weight_warning: 1,
        enable_tag_override: false,
        create_index: 0,
        modify_index: 0,
    }
}

fn alive_check(node: &Node) -> CatalogCheck {
    check(node, ALIVE_CHECK, "Serf Health Status")
}

fn client_check(node: &Node) -> CatalogCheck {
    CatalogCheck {
        service_id: client_service_id(node),
        service_name: Arc::from(CLIENT_SERVICE),
        ..check(node, &format!("_nomad-check-{}-http", node.id), "Nomad Client HTTP Check")
    }
}

/// A check that follows the node's heartbeats, so nobody has to run it.
fn check(node: &Node, id: &str, name: &str) -> CatalogCheck {
    let (status, output) = match node.status {
        NodeStatus::Down | NodeStatus::Disconnected => {
            (Health::Critical, "Agent not live or unreachable")
        }
        NodeStatus::Initializing | NodeStatus::Ready => {
            (Health::Passing, "Agent alive and reachable")
        }
    };
    CatalogCheck {
        node: Arc::from(node.name.as_str()),
        id: Arc::from(id),
        name: name.to_owned(),
        status,
        notes: String::new(),
        output: output.to_owned(),
        service_id: Arc::from(""),
        service_name: Arc::from(""),
        definition: None,
        create_index: 0,
        modify_index: 0,
    }
}

/// Splits `host:port`, also `[v6]:port`. Without a port, the port is zero.
fn split_address(address: &str) -> (String, u16) {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (address, None),
    };
    match port {
        Some(port) => (host.trim_matches(['[', ']']).to_owned(), port),
        None => (address.to_owned(), 0),
    }
}
