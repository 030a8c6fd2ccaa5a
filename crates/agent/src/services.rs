//! What an allocation puts into the catalog: its group's and its tasks' services with their checks.
//!
//! # Invariants
//!
//! - **Pure.** The same allocation on the same node gives the same registrations, so they can be
//!   compared with the catalog at any time.
//! - **Recognisable.** Every id begins with [`ID_PREFIX`], so that what a dead agent left behind can
//!   be told from what registered itself.
//!
//! # Deliberately absent
//!
//! - Running the checks; see `checks`. Sending; see `registry`.
//! - Addresses inside a container's own network: `address_mode = "driver"` and `"alloc"` advertise
//!   the host's address and port, which is where such a container is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::{
    CatalogChange, CatalogCheck, CheckDefinition, Health, Probe, ServiceInstance,
};
use cos_model::{AllocId, Allocation, Check, CheckKind, CheckRestart, Service, Task, TaskGroup};

use crate::alloc_machine::Advertised;
use crate::environment::{self, Environment};

mod repairs;
#[cfg(test)]
mod tests;

pub use repairs::repairs;

/// How the ids of services begin that agents register for tasks.
pub const ID_PREFIX: &str = "_nomad-task-";

/// One service instance with its checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The instance.
    pub service: ServiceInstance,
    /// Its checks.
    pub checks: Vec<RegisteredCheck>,
}

/// One check and what the agent does with its results.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisteredCheck {
    /// The check.
    pub check: CatalogCheck,
    /// The task that is restarted if it stays bad, and when.
    pub restart: Option<(String, CheckRestart)>,
    /// Whether an update waits for it: `ignore`, `ignore_warnings` or else everything.
    pub on_update: String,
}

/// What is needed to tell the registrations of an allocation.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The allocation.
    pub alloc: &'a Allocation,
    /// The node's name.
    pub node: &'a str,
    /// The address at which the node's tasks are reached.
    pub address: &'a str,
    /// Each task's environment.
    pub environments: &'a BTreeMap<String, Environment>,
}

/// Who a service belongs to.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Group,
    Task(&'a Task),
}

impl Site<'_> {
    /// Lists the registrations of what is to be found.
    pub fn registrations(&self, advertised: &Advertised) -> Vec<Registration> {
        let Some(group) = self.alloc.task_group() else { return Vec::new() };
        let mut list = Vec::new();
        if advertised.group {
            list.extend(group.services.iter().map(|s| self.register(group, Owner::Group, s)));
        }
        for task in group.tasks.iter().filter(|task| advertised.tasks.contains(&task.name)) {
            list.extend(task.services.iter().map(|s| self.register(group, Owner::Task(task), s)));
        }
        list
    }

    fn register(&self, group: &TaskGroup, owner: Owner<'_>, service: &Service) -> Registration {
        let environment = self.environment_of(group, owner, service);
        let text = |text: &String| environment.interpolate(text);
        let name = if service.name.is_empty() { "${BASE}" } else { &service.name };
        let name: Arc<str> = Arc::from(environment.interpolate(name));
        let owner_name = match owner {
            Owner::Group => format!("group-{}", group.name),
            Owner::Task(task) => task.name.clone(),
        };
        let alloc_id = self.alloc.id;
        let id = format!("{ID_PREFIX}{alloc_id}-{owner_name}-{name}-{}", service.port);
        let (tags, meta) = self.labels(service);
        let (host, port) = self.endpoint(owner, &environment.interpolate(&service.port));
        let address = if service.address.is_empty() { host } else { text(&service.address) };
        let mut meta: BTreeMap<String, String> =
            meta.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        meta.insert("external-source".to_owned(), "nomad".to_owned());
        let instance = ServiceInstance {
            node: Arc::from(self.node),
            id: Arc::from(id),
            name,
            tags: tags.iter().map(text).collect(),
            address,
            port,
            meta,
            tagged_addresses: service
                .tagged_addresses
                .iter()
                .map(|(name, address)| (name.clone(), (text(address), port)))
                .collect(),
            weight_passing: service.weight_passing.max(1),
            weight_warning: service.weight_warning.max(1),
            enable_tag_override: service.enable_tag_override,
            create_index: 0,
            modify_index: 0,
        };
        let checks = service
            .checks
            .iter()
            .enumerate()
            .map(|(index, check)| {
                self.register_check(index, owner, service, check, &instance, &environment)
            })
            .collect();
        Registration { service: instance, checks }
    }

    #[expect(clippy::too_many_arguments, reason = "a check is the child of all of them")]
    fn register_check(
        &self,
        index: usize,
        owner: Owner<'_>,
        service: &Service,
        check: &Check,
        instance: &ServiceInstance,
        environment: &Environment,
    ) -> RegisteredCheck {
        let (probe, refused) = match self.probe(owner, service, check, instance, environment) {
            Ok(probe) => (Some(probe), String::new()),
            Err(why) => (None, why),
        };
        let status = match check.initial_status.as_str() {
            "passing" if probe.is_some() => Health::Passing,
            "warning" if probe.is_some() => Health::Warning,
            _ => Health::Critical,
        };
        let name = if check.name.is_empty() {
            format!("service: {:?} check", instance.name)
        } else {
            environment.interpolate(&check.name)
        };
        let id = instance.id.strip_prefix(ID_PREFIX).unwrap_or(&instance.id);
        let restart = check.restart.clone().filter(|restart| restart.limit > 0);
        let on_update =
            if check.on_update.is_empty() { &service.on_update } else { &check.on_update };
        RegisteredCheck {
            check: CatalogCheck {
                node: Arc::clone(&instance.node),
                id: Arc::from(format!("_nomad-check-{id}-{index}")),
                name,
                status,
                notes: String::new(),
                output: refused,
                service_id: Arc::clone(&instance.id),
                service_name: Arc::clone(&instance.name),
                definition: probe.map(|probe| CheckDefinition {
                    probe,
                    interval: check.interval,
                    timeout: check.timeout,
                    deregister_after: std::time::Duration::ZERO,
                    success_before_passing: check.success_before_passing,
                    failures_before_critical: check.failures_before_critical,
                }),
                create_index: 0,
                modify_index: 0,
            },
            restart: restart
                .zip(self.task_of(owner, service))
                .map(|(restart, task)| (task, restart)),
            on_update: on_update.clone(),
        }
    }

    fn probe(
        &self,
        owner: Owner<'_>,
        service: &Service,
        check: &Check,
        instance: &ServiceInstance,
        environment: &Environment,
    ) -> Result<Probe, String> {
        let (host, port) = if check.port.is_empty() {
            (instance.address.clone(), instance.port)
        } else {
            self.endpoint(owner, &environment.interpolate(&check.port))
        };
        let endpoint =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        match &check.kind {
            CheckKind::Tcp => Ok(Probe::Tcp(endpoint)),
            CheckKind::Http { protocol, method, path, header, body, tls_skip_verify } => {
                let scheme = if protocol.is_empty() { "http" } else { protocol };
                let path = environment.interpolate(path);
                let slash = if path.starts_with('/') { "" } else { "/" };
                let header = header
                    .iter()
                    .map(|(name, values)| {
                        let values = values.iter().map(|v| environment.interpolate(v)).collect();
                        (environment.interpolate(name), values)
                    })
                    .collect();
                Ok(Probe::Http {
                    url: format!("{scheme}://{endpoint}{slash}{path}"),
                    method: method.clone(),
                    header,
                    body: environment.interpolate(body),
                    tls_skip_verify: *tls_skip_verify,
                })
            }
            CheckKind::Script { command, args, task } => {
                let task =
                    if task.is_empty() { self.task_of(owner, service) } else { Some(task.clone()) };
                let task = task.ok_or("a script check of a group service must name its task")?;
                let mut all = vec![environment.interpolate(command)];
                all.extend(args.iter().map(|arg| environment.interpolate(arg)));
                Ok(Probe::Script { args: all, target: format!("{}/{task}", self.alloc.id) })
            }
            CheckKind::Grpc { .. } => Err("gRPC checks are not supported".to_owned()),
        }
    }

    /// Finds host address and port of a label or a number.
    fn endpoint(&self, owner: Owner<'_>, port: &str) -> (String, u16) {
        let node = self.address.to_owned();
        let task = match owner {
            Owner::Group => None,
            Owner::Task(task) => Some(task.name.as_str()),
        };
        match environment::find_port(&self.alloc.ports, task, port) {
            Some(found) => {
                let any = matches!(found.host_ip.as_str(), "" | "0.0.0.0" | "::");
                (if any { node } else { found.host_ip.clone() }, found.host_port)
            }
            None => (node, port.parse().unwrap_or(0)),
        }
    }

    fn labels<'s>(&self, service: &'s Service) -> (&'s Vec<String>, &'s BTreeMap<String, String>) {
        let canary = self.alloc.canary;
        let own_tags = canary && !service.canary_tags.is_empty();
        let own_meta = canary && !service.canary_meta.is_empty();
        (
            if own_tags { &service.canary_tags } else { &service.tags },
            if own_meta { &service.canary_meta } else { &service.meta },
        )
    }

    /// The task a service stands for: its own, the one it names, or the only one.
    fn task_of(&self, owner: Owner<'_>, service: &Service) -> Option<String> {
        match owner {
            Owner::Task(task) => Some(task.name.clone()),
            Owner::Group if !service.task.is_empty() => Some(service.task.clone()),
            Owner::Group => {
                let group = self.alloc.task_group()?;
                let mut main = group.tasks.iter().filter(|task| task.lifecycle.is_none());
                let first = main.next()?;
                main.next().is_none().then(|| first.name.clone())
            }
        }
    }

    fn environment_of(
        &self,
        group: &TaskGroup,
        owner: Owner<'_>,
        service: &Service,
    ) -> Environment {
        let task = self.task_of(owner, service);
        let known = task.as_ref().and_then(|task| self.environments.get(task));
        let environment = known.or_else(|| self.environments.values().next()).cloned();
        let task = task.as_deref().unwrap_or_default();
        environment.unwrap_or_default().with_service_names(&self.alloc.job.name, &group.name, task)
    }
}

/// Whether an id is that of an instance which an agent registered for the tasks of `alloc`.
pub fn belongs_to(id: &str, alloc: AllocId) -> bool {
    id.strip_prefix(ID_PREFIX).is_some_and(|rest| rest.starts_with(&alloc.to_string()))
}

/// The changes that bring the catalog from one set of registrations to another: first what goes.
pub fn difference(old: &[Registration], new: &[Registration]) -> Vec<CatalogChange> {
    let gone = old.iter().filter(|old| !new.iter().any(|new| new.service.id == old.service.id));
    let mut changes: Vec<CatalogChange> = gone
        .map(|old| CatalogChange::RemoveService {
            node: Arc::clone(&old.service.node),
            id: Arc::clone(&old.service.id),
        })
        .collect();
    for registration in new {
        match old.iter().find(|old| old.service.id == registration.service.id) {
            Some(before) => changes.extend(registration.changes_since(before)),
            None => changes.extend(registration.puts()),
        }
    }
    changes
}

impl Registration {
    /// The changes that register it.
    pub fn puts(&self) -> Vec<CatalogChange> {
        let service = CatalogChange::PutService(self.service.clone());
        let checks = self.checks.iter().map(|check| CatalogChange::PutCheck(check.check.clone()));
        std::iter::once(service).chain(checks).collect()
    }

    /// Puts only what differs: to put a check anew would set it back to its initial status.
    fn changes_since(&self, before: &Self) -> Vec<CatalogChange> {
        let mut changes = Vec::new();
        for old in &before.checks {
            if !self.checks.iter().any(|new| new.check.id == old.check.id) {
                changes.push(CatalogChange::RemoveCheck {
                    node: Arc::clone(&old.check.node),
                    id: Arc::clone(&old.check.id),
                });
            }
        }
        if self.service != before.service {
            changes.push(CatalogChange::PutService(self.service.clone()));
        }
        for new in &self.checks {
            if !before.checks.iter().any(|old| old.check == new.check) {
                changes.push(CatalogChange::PutCheck(new.check.clone()));
            }
        }
        changes
    }
}
