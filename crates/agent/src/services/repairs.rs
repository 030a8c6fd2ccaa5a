//! What has to change so that the catalog says of a node what its allocations want to be found as.
//!
//! # Invariants
//!
//! - Only ids of our own prefix are removed: what registered itself belongs to somebody else.
//! - Pure, and asked again about what it asked for it asks for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::catalog::{Catalog, CatalogChange, ServiceInstance};

use super::{ID_PREFIX, Registration};

/// Compares what is wanted with what the catalog says of a node, and lists what would bring it in
/// step.
pub fn repairs<'a>(
    node: &Arc<str>,
    wanted: impl Iterator<Item = &'a Registration>,
    catalog: &Catalog,
) -> Vec<CatalogChange> {
    let mut changes = Vec::new();
    let mut ids: BTreeSet<Arc<str>> = BTreeSet::new();
    for registration in wanted {
        ids.insert(Arc::clone(&registration.service.id));
        let known = catalog.service(node, &registration.service.id);
        if known.is_none_or(|known| !same(known, &registration.service)) {
            changes.push(CatalogChange::PutService(registration.service.clone()));
        }
        for check in &registration.checks {
            let known = catalog.check(node, &check.check.id);
            if known.is_none_or(|known| known.definition != check.check.definition) {
                changes.push(CatalogChange::PutCheck(check.check.clone()));
            }
        }
    }
    for stale in catalog.services_on(node) {
        if stale.id.starts_with(ID_PREFIX) && !ids.contains(&stale.id) {
            changes.push(CatalogChange::RemoveService {
                node: Arc::clone(node),
                id: Arc::clone(&stale.id),
            });
        }
    }
    changes
}

fn same(known: &ServiceInstance, wanted: &ServiceInstance) -> bool {
    let tags = if wanted.enable_tag_override { known.tags.clone() } else { wanted.tags.clone() };
    let as_wanted = ServiceInstance {
        tags,
        create_index: known.create_index,
        modify_index: known.modify_index,
        ..wanted.clone()
    };
    *known == as_wanted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cos_model::catalog::CatalogNode;

    use super::*;

    fn service(id: &str, port: u16) -> ServiceInstance {
        ServiceInstance {
            node: Arc::from("n"),
            id: Arc::from(id),
            name: Arc::from("web"),
            tags: Vec::new(),
            address: "127.0.0.1".to_owned(),
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

    fn catalog(services: &[ServiceInstance]) -> Catalog {
        let mut catalog = Catalog::default();
        let node = CatalogNode {
            name: Arc::from("n"),
            id: String::new(),
            address: "127.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        };
        catalog.apply(1, &CatalogChange::PutNode(node)).unwrap();
        for service in services {
            catalog.apply(2, &CatalogChange::PutService(service.clone())).unwrap();
        }
        catalog
    }

    /// Writes each repair in two words.
    fn check(present: &[ServiceInstance], wanted: &[ServiceInstance], expected: &[&str]) {
        let wanted: Vec<Registration> = wanted
            .iter()
            .map(|service| Registration { service: service.clone(), checks: Vec::new() })
            .collect();
        let changes = repairs(&Arc::from("n"), wanted.iter(), &catalog(present));
        let words: Vec<String> = changes
            .iter()
            .map(|change| match change {
                CatalogChange::PutService(service) => format!("put {}", service.id),
                CatalogChange::RemoveService { id, .. } => format!("remove {id}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn what_nobody_wants_goes_and_what_is_missing_comes() {
        let ours = |number: u16| service(&format!("{ID_PREFIX}{number}"), number);
        check(&[ours(1)], &[ours(1)], &[]);
        check(&[ours(1)], &[ours(2)], &["put _nomad-task-2", "remove _nomad-task-1"]);
        check(&[service("self-registered", 80)], &[], &[]);
        check(&[ours(1)], &[ServiceInstance { port: 9, ..ours(1) }], &["put _nomad-task-1"]);
    }
}
