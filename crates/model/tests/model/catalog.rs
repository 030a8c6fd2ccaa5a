//! The catalog: examples of departures, and laws over random changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::catalog::{
    Catalog, CatalogChange, CatalogCheck, CatalogError, CatalogNode, Health, Instance,
    ServiceInstance,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Applies changes at the indexes 1, 2, …, and returns the catalog and the last answer.
fn apply_all(changes: &[CatalogChange]) -> (Catalog, Result<bool, CatalogError>) {
    let mut catalog = Catalog::default();
    let mut last = Ok(false);
    for (index, change) in (1..).zip(changes) {
        last = catalog.apply(index, change);
    }
    (catalog, last)
}

/// What a watcher of the names sees: each name and its tags, by the facts of the nodes it is on.
fn names(catalog: &Catalog) -> BTreeSet<(String, Vec<String>, BTreeMap<String, String>)> {
    let seen = catalog.services().map(|service| {
        let node = catalog.node(&service.node).unwrap();
        (service.name.to_string(), service.tags.clone(), node.meta.clone())
    });
    seen.collect()
}

/// Applies changes and compares the last answer and the index of the service `web`.
#[track_caller]
fn check(changes: &[CatalogChange], answer: Result<bool, &str>, web_index: u64) {
    let (catalog, last) = apply_all(changes);
    assert_eq!(last.map_err(|error| error.to_string()), answer.map_err(str::to_owned));
    assert_eq!(catalog.service_index("web"), web_index);
}

#[test]
fn a_change_that_changes_nothing_leaves_the_index() {
    let (node, web) = (node("box", 1), service("box", "one", "web", 80));
    check(&[node.clone(), web.clone()], Ok(true), 2);
    check(&[node.clone(), web.clone(), web.clone()], Ok(false), 2);
    check(&[node.clone(), web.clone(), node.clone()], Ok(false), 2);
    let alive = set_check("box", "alive", Health::Passing);
    let put = put_check("box", "alive", "one", Health::Passing);
    check(&[node.clone(), web.clone(), put.clone(), alive], Ok(false), 3);
    check(&[node, web, put.clone(), put], Ok(false), 3);
}

#[test]
fn what_belongs_to_nothing_is_refused() {
    let web = service("box", "one", "web", 80);
    check(std::slice::from_ref(&web), Err("unknown node `box`"), 0);
    let put = put_check("box", "alive", "one", Health::Passing);
    check(std::slice::from_ref(&put), Err("unknown node `box`"), 0);
    check(&[node("box", 1), put], Err("unknown service ID `one` on node `box`"), 0);
    let set = set_check("box", "alive", Health::Passing);
    check(&[node("box", 1), set], Err("unknown check ID `alive` on node `box`"), 0);
    let remove = remove_service("box", "one");
    check(&[node("box", 1), remove], Err("unknown service ID `one` on node `box`"), 0);
    check(&[CatalogChange::RemoveNode { node: Arc::from("box") }], Ok(false), 0);
}

#[test]
fn a_departure_is_remembered() {
    let there = [node("box", 1), service("box", "one", "web", 80)];
    let gone = [&there[..], &[remove_service("box", "one")]].concat();
    check(&gone, Ok(true), 3);
    let (catalog, _) = apply_all(&gone);
    assert!(catalog.service_names().is_empty() && catalog.instances("web").is_empty());
    let node_gone = [&there[..], &[CatalogChange::RemoveNode { node: Arc::from("box") }]].concat();
    check(&node_gone, Ok(true), 3);
    let renamed = [&there[..], &[service("box", "one", "api", 80)]].concat();
    check(&renamed, Ok(true), 3);
}

#[test]
fn a_renamed_service_takes_its_checks_along() {
    let changes = [
        node("box", 1),
        service("box", "one", "api", 80),
        put_check("box", "alive", "one", Health::Passing),
        service("box", "one", "web", 80),
        set_check("box", "alive", Health::Critical),
    ];
    check(&changes, Ok(true), 5);
    let (catalog, _) = apply_all(&changes);
    assert_eq!(&*catalog.check("box", "alive").unwrap().service_name, "web");
    assert_eq!(catalog.service_index("api"), 4);
}

#[test]
fn an_instance_is_as_healthy_as_the_worst_of_its_checks_and_its_nodes() {
    let changes = [
        node("box", 1),
        service("box", "one", "web", 80),
        service("box", "two", "web", 81),
        put_check("box", "serfHealth", "", Health::Warning),
        put_check("box", "alive", "one", Health::Critical),
    ];
    let (catalog, _) = apply_all(&changes);
    let health: Vec<Health> = catalog.instances("web").iter().map(Instance::health).collect();
    assert_eq!(health, [Health::Critical, Health::Warning]);
}

proptest! {
    #[test]
    fn what_is_refused_or_changes_nothing_leaves_everything(changes in changes()) {
        let mut catalog = Catalog::default();
        for (index, change) in (1..).zip(&changes) {
            let before = catalog.clone();
            let changed = catalog.apply(index, change);
            prop_assert_eq!(changed == Ok(true), catalog != before, "{:?}", change);
            let after = catalog.clone();
            prop_assert_ne!(catalog.apply(index + 1000, change), Ok(true));
            prop_assert_eq!(&catalog, &after);
        }
    }

    /// Whoever waits on a name is woken by everything that changes what it would be told.
    #[test]
    fn a_change_of_what_a_reader_sees_has_its_index(changes in changes()) {
        let mut catalog = Catalog::default();
        for (index, change) in (1..).zip(&changes) {
            let before = catalog.clone();
            drop(catalog.apply(index, change));
            if catalog != before {
                prop_assert_eq!(catalog.index(), index);
            }
            let moved = catalog.names_index() == index;
            // New facts of a node wake the watchers of names even if they hide nothing new.
            if !moved || !matches!(change, CatalogChange::PutNode(_)) {
                prop_assert_eq!(moved, names(&catalog) != names(&before), "{:?}", change);
            }
            let moved = catalog.nodes_index() == index;
            prop_assert_eq!(moved, catalog.nodes().ne(before.nodes()), "{:?}", change);
            for name in NAMES {
                prop_assert!(catalog.service_index(name) >= before.service_index(name));
                if catalog.instances(name) != before.instances(name) {
                    prop_assert_eq!(catalog.service_index(name), index, "{:?}", change);
                }
            }
        }
    }

    #[test]
    fn indexes_equal_a_full_scan(changes in changes()) {
        let (catalog, _) = apply_all(&changes);
        for name in NAMES {
            let found: Vec<_> = catalog.instances(name).into_iter().map(|i| i.service).collect();
            let scan: Vec<_> =
                catalog.services().filter(|s| &*s.name == name).cloned().collect();
            prop_assert_eq!(found, scan);
            let listed = catalog.service_names().iter().any(|listed| &**listed == name);
            prop_assert_eq!(listed, catalog.services().any(|s| &*s.name == name));
        }
        for node in NODES {
            let scan: Vec<_> = catalog.services().filter(|s| &*s.node == node).collect();
            prop_assert_eq!(catalog.services_on(node).collect::<Vec<_>>(), scan);
            for id in ["", "one", "two"] {
                let scan: Vec<_> = catalog
                    .checks()
                    .filter(|check| &*check.node == node && &*check.service_id == id)
                    .collect();
                prop_assert_eq!(catalog.checks_of_service(node, id).collect::<Vec<_>>(), scan);
            }
        }
    }

    #[test]
    fn everything_belongs_to_something(changes in changes()) {
        let (catalog, _) = apply_all(&changes);
        for service in catalog.services() {
            prop_assert!(catalog.node(&service.node).is_some());
            prop_assert!(catalog.service_index(&service.name) >= service.modify_index);
        }
        for check in catalog.checks() {
            prop_assert!(catalog.node(&check.node).is_some());
            let service = catalog.service(&check.node, &check.service_id);
            let name = service.map_or("", |service| &*service.name);
            prop_assert_eq!(&*check.service_name, name);
            prop_assert_eq!(service.is_none(), check.service_id.is_empty());
        }
    }

    #[test]
    fn a_catalog_survives_storage(changes in changes()) {
        let (catalog, _) = apply_all(&changes);
        let stored = rmp_serde::to_vec_named(&catalog).unwrap();
        prop_assert_eq!(rmp_serde::from_slice::<Catalog>(&stored).unwrap(), catalog);
    }
}

const NODES: [&str; 2] = ["box", "bay"];
const NAMES: [&str; 2] = ["web", "api"];

fn changes() -> impl Strategy<Value = Vec<CatalogChange>> {
    prop::collection::vec(change(), 0..40)
}

fn change() -> impl Strategy<Value = CatalogChange> {
    let nodes = || select(NODES.to_vec());
    let ids = || select(vec!["one", "two"]);
    let checks = || select(vec!["alive", "serfHealth"]);
    let owners = || select(vec!["", "one", "two"]);
    let health = || select(vec![Health::Passing, Health::Warning, Health::Critical]);
    prop_oneof![
        2 => (nodes(), 0_u8..2).prop_map(|(name, address)| node(name, address)),
        1 => nodes().prop_map(|node| CatalogChange::RemoveNode { node: Arc::from(node) }),
        4 => (nodes(), ids(), select(NAMES.to_vec()), 80_u16..82)
            .prop_map(|(node, id, name, port)| service(node, id, name, port)),
        1 => (nodes(), ids(), select(NAMES.to_vec()))
            .prop_map(|(node, id, name)| tagged(service(node, id, name, 80))),
        1 => nodes().prop_map(|name| in_rack(node(name, 1))),
        1 => (nodes(), ids()).prop_map(|(node, id)| remove_service(node, id)),
        4 => (nodes(), checks(), owners(), health())
            .prop_map(|(node, id, owner, status)| put_check(node, id, owner, status)),
        2 => (nodes(), checks(), health())
            .prop_map(|(node, id, status)| set_check(node, id, status)),
        1 => (nodes(), checks()).prop_map(|(node, id)| CatalogChange::RemoveCheck {
            node: Arc::from(node),
            id: Arc::from(id),
        }),
    ]
}

fn node(name: &str, address: u8) -> CatalogChange {
    CatalogChange::PutNode(CatalogNode {
        name: Arc::from(name),
        id: String::new(),
        address: format!("10.0.0.{address}"),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    })
}

fn service(node: &str, id: &str, name: &str, port: u16) -> CatalogChange {
    CatalogChange::PutService(ServiceInstance {
        node: Arc::from(node),
        id: Arc::from(id),
        name: Arc::from(name),
        tags: Vec::new(),
        address: String::new(),
        port,
        meta: BTreeMap::new(),
        tagged_addresses: BTreeMap::new(),
        weight_passing: 1,
        weight_warning: 1,
        enable_tag_override: false,
        create_index: 0,
        modify_index: 0,
    })
}

fn tagged(mut change: CatalogChange) -> CatalogChange {
    if let CatalogChange::PutService(service) = &mut change {
        service.tags.push("v1".to_owned());
    }
    change
}

fn in_rack(mut change: CatalogChange) -> CatalogChange {
    if let CatalogChange::PutNode(node) = &mut change {
        node.meta.insert("rack".to_owned(), "r1".to_owned());
    }
    change
}

fn put_check(node: &str, id: &str, service: &str, status: Health) -> CatalogChange {
    CatalogChange::PutCheck(CatalogCheck {
        node: Arc::from(node),
        id: Arc::from(id),
        name: id.to_owned(),
        status,
        notes: String::new(),
        output: String::new(),
        service_id: Arc::from(service),
        service_name: Arc::from(""),
        definition: None,
        create_index: 0,
        modify_index: 0,
    })
}

fn set_check(node: &str, id: &str, status: Health) -> CatalogChange {
    CatalogChange::SetCheck {
        node: Arc::from(node),
        id: Arc::from(id),
        status,
        output: String::new(),
    }
}

fn remove_service(node: &str, id: &str) -> CatalogChange {
    CatalogChange::RemoveService { node: Arc::from(node), id: Arc::from(id) }
}
