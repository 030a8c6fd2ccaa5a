//! The servers' own entries in the catalog, which the leader keeps.
//!
//! Each server is a node with the check `serfHealth`, one service `consul`, and three instances of
//! `nomad`, one per port, each with a check, as clients of both products expect.
//!
//! Pure: catalog and servers in, changes out. What stands there already is not written again.
//!
//! # Invariants
//!
//! - A server that is a client agent as well shares its node entry, which then belongs to the
//!   client's registration; only the services are written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::catalog::{
    ALIVE_CHECK, Catalog, CatalogChange, CatalogCheck, CatalogNode, Health, ServiceInstance,
};

/// The service under which servers are found.
const NOMAD: &str = "nomad";
/// The service under which client agents are found.
const NOMAD_CLIENT: &str = "nomad-client";
/// The service under which the registry itself is found.
const CONSUL: &str = "consul";
/// The port that the registry's service entry has carried at all times.
const CONSUL_PORT: u16 = 8300;
/// The registry's words for a node whose agent answers, and for one whose agent does not.
const ALIVE: &str = "Agent alive and reachable";
const NOT_ALIVE: &str = "Agent not live or unreachable";

/// A server as the catalog shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerEntry {
    /// Name of its node.
    pub(crate) name: String,
    /// Its id in UUID text.
    pub(crate) id: String,
    /// The address without port.
    pub(crate) address: String,
    /// Its ports by tag: `http`, `rpc`, `serf`.
    pub(crate) ports: BTreeMap<&'static str, u16>,
    /// Whether it answers.
    pub(crate) is_alive: bool,
}

/// Decides what has to change so that the catalog shows `servers` and no server in `gone`.
pub(crate) fn decide(
    catalog: &Catalog,
    servers: &[ServerEntry],
    gone: &[String],
) -> Vec<CatalogChange> {
    let mut changes = Vec::new();
    for server in servers {
        let name: Arc<str> = Arc::from(server.name.as_str());
        if !is_client(catalog, &name) {
            put_node(catalog, &name, server, &mut changes);
        }
        for (service, check) in services(&name, server) {
            if !stands(catalog.service(&name, &service.id), &service) {
                changes.push(CatalogChange::PutService(service));
            }
            changes.extend(check.and_then(|check| put_check(catalog, check)));
        }
    }
    for name in gone {
        remove(catalog, name, &mut changes);
    }
    changes
}

/// Whether a client agent has registered under this name, and so owns the node entry.
fn is_client(catalog: &Catalog, name: &str) -> bool {
    catalog.services_on(name).any(|service| &*service.name == NOMAD_CLIENT)
}

fn put_node(
    catalog: &Catalog,
    name: &Arc<str>,
    server: &ServerEntry,
    changes: &mut Vec<CatalogChange>,
) {
    let node = CatalogNode {
        name: Arc::clone(name),
        id: server.id.clone(),
        address: server.address.clone(),
        tagged_addresses: ["lan", "wan"].map(|tag| (tag.to_owned(), server.address.clone())).into(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    };
    let stands = catalog.node(name).is_some_and(|old| {
        let indexes = (old.create_index, old.modify_index);
        **old == CatalogNode { create_index: indexes.0, modify_index: indexes.1, ..node.clone() }
    });
    if !stands {
        changes.push(CatalogChange::PutNode(node));
    }
    let (status, output) =
        if server.is_alive { (Health::Passing, ALIVE) } else { (Health::Critical, NOT_ALIVE) };
    let alive = check(name, ALIVE_CHECK, "Serf Health Status", "", (status, output));
    changes.extend(put_check(catalog, alive));
}

/// The instances of a server, each with its check if it has one.
fn services(name: &Arc<str>, server: &ServerEntry) -> Vec<(ServiceInstance, Option<CatalogCheck>)> {
    let (status, output) = if server.is_alive {
        (Health::Passing, "")
    } else {
        (Health::Critical, "server does not answer")
    };
    let mut services = vec![(instance(name, CONSUL, CONSUL, None, "", CONSUL_PORT), None)];
    for (tag, port) in &server.ports {
        let id = format!("_nomad-server-{tag}");
        let words = format!("Nomad Server {} Check", shown(tag));
        let check = check(name, &format!("{id}-check"), &words, &id, (status, output));
        let service = instance(name, &id, NOMAD, Some(tag), &server.address, *port);
        services.push((service, Some(check)));
    }
    services
}

fn shown(tag: &str) -> String {
    if tag == "serf" { "Serf".to_owned() } else { tag.to_uppercase() }
}

fn instance(
    node: &Arc<str>,
    id: &str,
    name: &str,
    tag: Option<&str>,
    address: &str,
    port: u16,
) -> ServiceInstance {
    ServiceInstance {
        node: Arc::clone(node),
        id: Arc::from(id),
        name: Arc::from(name),
        tags: tag.map(str::to_owned).into_iter().collect(),
        address: address.to_owned(),
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

fn check(
    node: &Arc<str>,
    id: &str,
    name: &str,
    service: &str,
    (status, output): (Health, &str),
) -> CatalogCheck {
    CatalogCheck {
        node: Arc::clone(node),
        id: Arc::from(id),
        name: name.to_owned(),
        status,
        notes: String::new(),
        output: output.to_owned(),
        service_id: Arc::from(service),
        service_name: Arc::from(if service.is_empty() { "" } else { NOMAD }),
        definition: None,
        create_index: 0,
        modify_index: 0,
    }
}

fn stands(old: Option<&Arc<ServiceInstance>>, new: &ServiceInstance) -> bool {
    old.is_some_and(|old| {
        **old
            == ServiceInstance {
                create_index: old.create_index,
                modify_index: old.modify_index,
                ..new.clone()
            }
    })
}

fn put_check(catalog: &Catalog, check: CatalogCheck) -> Option<CatalogChange> {
    let stands = catalog.check(&check.node, &check.id).is_some_and(|old| {
        **old
            == CatalogCheck {
                create_index: old.create_index,
                modify_index: old.modify_index,
                ..check.clone()
            }
    });
    (!stands).then_some(CatalogChange::PutCheck(check))
}

fn remove(catalog: &Catalog, name: &str, changes: &mut Vec<CatalogChange>) {
    let Some(node) = catalog.node(name) else { return };
    if !is_client(catalog, name) {
        changes.push(CatalogChange::RemoveNode { node: Arc::clone(&node.name) });
        return;
    }
    let own: BTreeSet<&str> = BTreeSet::from([NOMAD, CONSUL]);
    changes.extend(catalog.services_on(name).filter(|s| own.contains(&*s.name)).map(|service| {
        CatalogChange::RemoveService { node: Arc::clone(&node.name), id: Arc::clone(&service.id) }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u8, is_alive: bool) -> ServerEntry {
        ServerEntry {
            name: format!("server{number}"),
            id: String::new(),
            address: format!("127.0.0.{number}"),
            ports: BTreeMap::from([("http", 4646), ("rpc", 4647), ("serf", 4648)]),
            is_alive,
        }
    }

    fn settle(catalog: &mut Catalog, servers: &[ServerEntry], gone: &[String]) -> usize {
        let changes = decide(catalog, servers, gone);
        for change in &changes {
            catalog.apply(catalog.index() + 1, change).unwrap();
        }
        changes.len()
    }

    /// Says what the catalog shows: instances of both services, their checks, node checks.
    #[track_caller]
    fn check_catalog(catalog: &Catalog, expected: (usize, usize, usize)) {
        let of = |name: &str| catalog.instances(name);
        let checks: usize = of(NOMAD).iter().map(|instance| instance.checks.len()).sum();
        assert_eq!((of(CONSUL).len(), of(NOMAD).len(), checks), expected);
    }

    #[test]
    fn three_servers_show_as_three_and_nine_instances_with_eighteen_checks() {
        let mut catalog = Catalog::default();
        let servers = [1, 2, 3].map(|number| entry(number, true));
        settle(&mut catalog, &servers, &[]);
        check_catalog(&catalog, (3, 9, 18));
        assert!(catalog.instances(NOMAD).iter().all(|i| i.health() == Health::Passing));
    }

    #[test]
    fn what_stands_is_not_written_again() {
        let mut catalog = Catalog::default();
        let servers = [1, 2, 3].map(|number| entry(number, true));
        assert_ne!(settle(&mut catalog, &servers, &[]), 0);
        assert_eq!(settle(&mut catalog, &servers, &[]), 0);
    }

    #[test]
    fn a_server_that_does_not_answer_is_critical() {
        let mut catalog = Catalog::default();
        settle(&mut catalog, &[entry(1, true)], &[]);
        settle(&mut catalog, &[entry(1, false)], &[]);
        assert!(catalog.instances(CONSUL).iter().all(|i| i.health() == Health::Critical));
    }

    #[test]
    fn a_server_that_left_is_gone() {
        let mut catalog = Catalog::default();
        settle(&mut catalog, &[entry(1, true)], &[]);
        settle(&mut catalog, &[], &["server1".to_owned()]);
        check_catalog(&catalog, (0, 0, 0));
        assert_eq!(settle(&mut catalog, &[], &["server1".to_owned()]), 0);
    }

    #[test]
    fn the_node_of_a_client_is_left_to_the_client() {
        let mut catalog = Catalog::default();
        let own = CatalogNode {
            name: "server1".into(),
            id: "of the client".to_owned(),
            address: "10.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        };
        catalog.apply(1, &CatalogChange::PutNode(own)).unwrap();
        let client = instance(&"server1".into(), "client", NOMAD_CLIENT, None, "", 4646);
        catalog.apply(2, &CatalogChange::PutService(client)).unwrap();
        settle(&mut catalog, &[entry(1, true)], &[]);
        assert_eq!(catalog.node("server1").unwrap().address, "10.0.0.1");
        assert_eq!(catalog.instances(NOMAD).len(), 3);
        settle(&mut catalog, &[], &["server1".to_owned()]);
        assert!(catalog.node("server1").is_some());
        check_catalog(&catalog, (0, 0, 0));
    }
}
