//! Changes of the catalog: the only place that writes its maps.
//!
//! Deliberately absent: deciding what to change. Agents and the Consul dialect do.

use std::sync::Arc;

use super::{
    Catalog, CatalogChange, CatalogCheck, CatalogError, CatalogNode, Health, ServiceInstance,
};

impl Catalog {
    /// Makes everything in it seem to have changed at an index, as when all of it was replaced.
    pub fn raise(&mut self, index: u64) {
        self.index = self.index.max(index);
        self.nodes_index = self.nodes_index.max(index);
        self.names_index = self.names_index.max(index);
        let names: Vec<Arc<str>> = self.service_index.keys().cloned().collect();
        for name in names {
            self.service_index.insert(name, index);
        }
    }

    /// Applies one change at `index`. Returns whether anything changed.
    pub fn apply(&mut self, index: u64, change: &CatalogChange) -> Result<bool, CatalogError> {
        match change {
            CatalogChange::PutNode(node) => Ok(self.put_node(index, node)),
            CatalogChange::RemoveNode { node } => Ok(self.remove_node(index, node)),
            CatalogChange::PutService(service) => self.put_service(index, service),
            CatalogChange::RemoveService { node, id } => {
                let removed = self.remove_service(index, node, id);
                removed.then_some(true).ok_or_else(|| unknown_service(node, id))
            }
            CatalogChange::PutCheck(check) => self.put_check(index, check),
            CatalogChange::RemoveCheck { node, id } => {
                let removed = self.remove_check(index, node, id);
                removed.then_some(true).ok_or_else(|| unknown_check(node, id))
            }
            CatalogChange::SetCheck { node, id, status, output } => {
                self.set_check(index, node, id, *status, output)
            }
        }
    }

    fn put_node(&mut self, index: u64, node: &CatalogNode) -> bool {
        let old = self.nodes.get(&node.name);
        let create_index = old.map_or(index, |old| old.create_index);
        let modify_index = old.map_or(index, |old| old.modify_index);
        let same = CatalogNode { create_index, modify_index, ..node.clone() };
        if old.is_some_and(|old| **old == same) {
            return false;
        }
        let new = CatalogNode { modify_index: index, ..same };
        // Names are asked for by the facts of their nodes.
        if old.is_some_and(|old| old.meta != new.meta) {
            self.names_index = index;
        }
        self.nodes_index = index;
        self.nodes.insert(Arc::clone(&node.name), Arc::new(new));
        self.touch_services_of(index, &node.name);
        self.index = index;
        true
    }

    fn remove_node(&mut self, index: u64, name: &Arc<str>) -> bool {
        if !self.nodes.contains_key(name) {
            return false;
        }
        let services: Vec<Arc<str>> = self.services_on(name).map(|s| Arc::clone(&s.id)).collect();
        for id in services {
            self.remove_service(index, name, &id);
        }
        let checks: Vec<Arc<str>> = self.checks_on(name).map(|c| Arc::clone(&c.id)).collect();
        for id in checks {
            self.remove_check(index, name, &id);
        }
        self.nodes.remove(name);
        self.nodes_index = index;
        self.index = index;
        true
    }

    fn put_service(&mut self, index: u64, service: &ServiceInstance) -> Result<bool, CatalogError> {
        if !self.nodes.contains_key(&service.node) {
            return Err(CatalogError::UnknownNode(service.node.to_string()));
        }
        let key = (Arc::clone(&service.node), Arc::clone(&service.id));
        let old = self.services.get(&key).cloned();
        let create_index = old.as_ref().map_or(index, |old| old.create_index);
        let modify_index = old.as_ref().map_or(index, |old| old.modify_index);
        let same = ServiceInstance { create_index, modify_index, ..service.clone() };
        if old.as_ref().is_some_and(|old| **old == same) {
            return Ok(false);
        }
        if let Some(old) = &old {
            self.by_name.remove(&(
                Arc::clone(&old.name),
                Arc::clone(&old.node),
                Arc::clone(&old.id),
            ));
            self.service_index.insert(Arc::clone(&old.name), index);
        }
        let new = ServiceInstance { modify_index: index, ..same };
        self.link_service(&new);
        self.service_index.insert(Arc::clone(&new.name), index);
        if old.as_ref().is_none_or(|old| old.name != new.name || old.tags != new.tags) {
            if let Some(old) = &old {
                self.touch_names(index, old);
            }
            self.touch_names(index, &new);
        }
        if old.is_some_and(|old| old.name != new.name) {
            self.rename_checks(index, &new);
        }
        self.services.insert(key, Arc::new(new));
        self.index = index;
        Ok(true)
    }

    /// A check carries its service's name, and wakes the readers of that name.
    fn rename_checks(&mut self, index: u64, service: &ServiceInstance) {
        let checks: Vec<Arc<CatalogCheck>> =
            self.checks_of_service(&service.node, &service.id).cloned().collect();
        for check in checks {
            let service_name = Arc::clone(&service.name);
            let renamed =
                CatalogCheck { service_name, modify_index: index, ..CatalogCheck::clone(&check) };
            self.insert_check(index, renamed);
        }
    }

    fn remove_service(&mut self, index: u64, node: &Arc<str>, id: &Arc<str>) -> bool {
        let Some(old) = self.services.remove(&(Arc::clone(node), Arc::clone(id))) else {
            return false;
        };
        self.by_name.remove(&(Arc::clone(&old.name), Arc::clone(node), Arc::clone(id)));
        let checks: Vec<Arc<str>> =
            self.checks_of_service(node, id).map(|c| Arc::clone(&c.id)).collect();
        for check in checks {
            self.remove_check(index, node, &check);
        }
        self.service_index.insert(Arc::clone(&old.name), index);
        self.touch_names(index, &old);
        self.index = index;
        true
    }

    fn put_check(&mut self, index: u64, check: &CatalogCheck) -> Result<bool, CatalogError> {
        if !self.nodes.contains_key(&check.node) {
            return Err(CatalogError::UnknownNode(check.node.to_string()));
        }
        let service_key = (Arc::clone(&check.node), Arc::clone(&check.service_id));
        let service_name = match self.services.get(&service_key) {
            Some(service) => Arc::clone(&service.name),
            None if check.service_id.is_empty() => Arc::from(""),
            None => return Err(unknown_service(&check.node, &check.service_id)),
        };
        let key = (Arc::clone(&check.node), Arc::clone(&check.id));
        let old = self.checks.get(&key).cloned();
        let create_index = old.as_ref().map_or(index, |old| old.create_index);
        let modify_index = old.as_ref().map_or(index, |old| old.modify_index);
        let same = CatalogCheck { service_name, create_index, modify_index, ..check.clone() };
        if old.as_ref().is_some_and(|old| **old == same) {
            return Ok(false);
        }
        if old.is_some() {
            self.remove_check(index, &check.node, &check.id);
        }
        self.insert_check(index, CatalogCheck { modify_index: index, ..same });
        Ok(true)
    }

    fn set_check(
        &mut self,
        index: u64,
        node: &Arc<str>,
        id: &Arc<str>,
        status: Health,
        output: &str,
    ) -> Result<bool, CatalogError> {
        let key = (Arc::clone(node), Arc::clone(id));
        let old = self.checks.get(&key).ok_or_else(|| unknown_check(node, id))?;
        if old.status == status && old.output == output {
            return Ok(false);
        }
        let new = CatalogCheck {
            status,
            output: output.to_owned(),
            modify_index: index,
            ..CatalogCheck::clone(old)
        };
        self.insert_check(index, new);
        Ok(true)
    }

    fn insert_check(&mut self, index: u64, check: CatalogCheck) {
        self.link_check(&check);
        self.touch_check_readers(index, &check);
        self.checks.insert((Arc::clone(&check.node), Arc::clone(&check.id)), Arc::new(check));
        self.index = index;
    }

    fn remove_check(&mut self, index: u64, node: &Arc<str>, id: &Arc<str>) -> bool {
        let Some(old) = self.checks.remove(&(Arc::clone(node), Arc::clone(id))) else {
            return false;
        };
        self.by_service.remove(&(Arc::clone(node), Arc::clone(&old.service_id), Arc::clone(id)));
        self.touch_check_readers(index, &old);
        self.index = index;
        true
    }

    pub(super) fn link_service(&mut self, service: &ServiceInstance) {
        let place = (Arc::clone(&service.name), Arc::clone(&service.node), Arc::clone(&service.id));
        self.by_name.insert(place, ());
    }

    pub(super) fn link_check(&mut self, check: &CatalogCheck) {
        let place = (Arc::clone(&check.node), Arc::clone(&check.service_id), Arc::clone(&check.id));
        self.by_service.insert(place, ());
    }

    /// An instance that comes or goes changes what names and tags there are, unless another one says
    /// the same on the same kind of node.
    fn touch_names(&mut self, index: u64, service: &ServiceInstance) {
        let meta_of = |node: &str| self.nodes.get(node).map(|node| &node.meta);
        let has_twin = self.services_named(&service.name).any(|other| {
            (&other.node, &other.id) != (&service.node, &service.id)
                && other.tags == service.tags
                && meta_of(&other.node) == meta_of(&service.node)
        });
        if !has_twin {
            self.names_index = index;
        }
    }

    /// A node check concerns every service on the node.
    fn touch_check_readers(&mut self, index: u64, check: &CatalogCheck) {
        if check.service_id.is_empty() {
            self.touch_services_of(index, &check.node);
        } else {
            self.service_index.insert(Arc::clone(&check.service_name), index);
        }
    }

    fn touch_services_of(&mut self, index: u64, node: &Arc<str>) {
        let names: Vec<Arc<str>> = self.services_on(node).map(|s| Arc::clone(&s.name)).collect();
        for name in names {
            self.service_index.insert(name, index);
        }
    }
}

fn unknown_service(node: &str, id: &str) -> CatalogError {
    CatalogError::UnknownService { node: node.to_owned(), id: id.to_owned() }
}

fn unknown_check(node: &str, id: &str) -> CatalogError {
    CatalogError::UnknownCheck { node: node.to_owned(), id: id.to_owned() }
}
