//! What a task finds in its environment, and how `${…}` is resolved on the node.
//!
//! One value, [`Environment`], answers both: its variables go to the driver, and its lookups
//! resolve references in driver options, service names, tags, checks, templates' paths and
//! artifacts.
//!
//! # Invariants
//!
//! - **Pure.** The agent's own environment is an argument.
//! - **Unknown references survive.** `${SUBPATH}` that nobody defined stays as it is, because the
//!   program that reads the result may expand it itself.
//! - **Both spellings.** A name with characters that shells refuse is given as it is and once
//!   more with `_` in their place.
//!
//! # Deliberately absent
//!
//! - Template functions; see `template`. They read the finished environment.

use std::collections::BTreeMap;

use cos_model::{AllocatedPort, Allocation, Job, Node, Task, TaskGroup, Value};

mod ports;

pub use ports::port_map;

/// Variables of the agent that hold secrets and are never handed down.
const SECRET_VARIABLES: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "CONSUL_HTTP_TOKEN",
    "CONSUL_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "NOMAD_LICENSE",
    "NOMAD_TOKEN",
    "VAULT_TOKEN",
    "COS_TOKEN",
];

/// The directories of a task as the task itself sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// Shared by all tasks of the allocation.
    pub alloc: String,
    /// The task's own.
    pub local: String,
    /// The task's own, for secrets.
    pub secrets: String,
}

/// Everything that the environment of a task is made of.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// The allocation.
    pub alloc: &'a Allocation,
    /// One of its tasks.
    pub task: &'a Task,
    /// The node it runs on.
    pub node: &'a Node,
    /// The cluster's region.
    pub region: &'a str,
    /// The task's directories.
    pub directories: &'a Directories,
    /// The agent's own environment, handed down to tasks that see the machine's files; empty for
    /// images.
    pub inherited: &'a BTreeMap<String, String>,
}

/// The environment of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    facts: BTreeMap<String, String>,
}

impl Environment {
    /// Gathers the environment of a task.
    pub fn of(origin: &Origin<'_>) -> Self {
        let mut environment = Self::of_node(origin.node, origin.region);
        environment.variables = origin
            .inherited
            .iter()
            .filter(|(name, _)| !SECRET_VARIABLES.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        environment.add_identity(origin);
        environment.add_limits(origin);
        for (name, value) in ports::variables(&origin.alloc.ports, origin.task) {
            environment.set(&name, value);
        }
        let group = origin.alloc.task_group();
        for (name, value) in merged_meta(&origin.alloc.job, group, origin.task) {
            environment.set(&format!("NOMAD_META_{name}"), value.clone());
            environment.set(&format!("NOMAD_META_{}", name.to_uppercase()), value);
        }
        // All are resolved against what stands so far, not against each other: the order in which
        // a job file lists them must not matter.
        let own: Vec<(String, String)> = origin
            .task
            .env
            .iter()
            .map(|(name, value)| (environment.interpolate(name), environment.interpolate(value)))
            .collect();
        environment.add(own);
        environment
    }

    /// Gathers what is known of a node without any task.
    pub fn of_node(node: &Node, region: &str) -> Self {
        let mut facts = BTreeMap::from([
            ("node.unique.id".to_owned(), node.id.to_string()),
            ("node.unique.name".to_owned(), node.name.clone()),
            ("node.datacenter".to_owned(), node.datacenter.clone()),
            ("node.class".to_owned(), node.node_class.clone()),
            ("node.pool".to_owned(), node.node_pool.clone()),
            ("node.region".to_owned(), region.to_owned()),
        ]);
        facts.extend(node.attributes.iter().map(|(k, v)| (format!("attr.{k}"), v.clone())));
        facts.extend(node.meta.iter().map(|(k, v)| (format!("meta.{k}"), v.clone())));
        Self { variables: BTreeMap::new(), facts }
    }

    /// Adds variables over those that exist, such as those that a template gives.
    pub fn add(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            self.set(&name, value);
        }
    }

    /// The variables, for the driver.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Finds one variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Replaces every known `${…}` in a text.
    pub fn interpolate(&self, text: &str) -> String {
        replace_references(text, |name| self.resolve(name))
    }

    /// Replaces every known `${…}` in all texts of a value, keys of maps included.
    pub fn interpolate_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.interpolate(text)),
            Value::List(list) => {
                Value::List(list.iter().map(|item| self.interpolate_value(item)).collect())
            }
            Value::Map(map) => Value::Map(self.interpolate_map(map)),
            other => other.clone(),
        }
    }

    /// Replaces every known `${…}` in a task's driver options.
    pub fn interpolate_map(&self, map: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        map.iter()
            .map(|(key, value)| (self.interpolate(key), self.interpolate_value(value)))
            .collect()
    }

    /// Returns a copy in which old job files' `${JOB}`, `${TASKGROUP}`, `${TASK}` and `${BASE}`
    /// are known too.
    #[must_use]
    pub fn with_service_names(&self, job: &str, group: &str, task: &str) -> Self {
        let mut copy = self.clone();
        let names = [
            ("JOB", job.to_owned()),
            ("TASKGROUP", group.to_owned()),
            ("TASK", task.to_owned()),
            ("BASE", format!("{job}-{group}-{task}")),
        ];
        copy.facts.extend(names.map(|(name, value)| (name.to_owned(), value)));
        copy
    }

    fn resolve(&self, name: &str) -> Option<String> {
        let quoted = name.strip_prefix("env[").and_then(|rest| rest.strip_suffix(']'));
        if let Some(variable) = quoted {
            let variable = variable.trim_matches(['"', '\'']);
            return self.variables.get(variable).cloned();
        }
        self.facts.get(name).or_else(|| self.variables.get(name)).cloned()
    }

    fn set(&mut self, name: &str, value: String) {
        let clean = clean_name(name);
        if clean != name {
            self.variables.insert(clean, value.clone());
        }
        self.variables.insert(name.to_owned(), value);
    }

    fn add_identity(&mut self, origin: &Origin<'_>) {
        let alloc = origin.alloc;
        let job = &alloc.job;
        let facts = [
            ("NOMAD_ALLOC_DIR", origin.directories.alloc.clone()),
            ("NOMAD_TASK_DIR", origin.directories.local.clone()),
            ("NOMAD_SECRETS_DIR", origin.directories.secrets.clone()),
            ("NOMAD_ALLOC_ID", alloc.id.to_string()),
            ("NOMAD_SHORT_ALLOC_ID", alloc.id.short()),
            ("NOMAD_ALLOC_NAME", alloc.name()),
            ("NOMAD_ALLOC_INDEX", alloc.index.to_string()),
            ("NOMAD_TASK_NAME", origin.task.name.clone()),
            ("NOMAD_GROUP_NAME", alloc.group.to_string()),
            ("NOMAD_JOB_ID", job.key.id.to_string()),
            ("NOMAD_JOB_NAME", job.name.clone()),
            ("NOMAD_JOB_PARENT_ID", job.parent_id.clone()),
            ("NOMAD_NAMESPACE", job.key.namespace.to_string()),
            ("NOMAD_DC", origin.node.datacenter.clone()),
            ("NOMAD_REGION", origin.region.to_owned()),
        ];
        for (name, value) in facts {
            if !value.is_empty() {
                self.set(name, value);
            }
        }
    }

    fn add_limits(&mut self, origin: &Origin<'_>) {
        let granted = origin.alloc.tasks.get(&origin.task.name);
        let resources = granted.map_or(origin.task.resources, |granted| granted.resources);
        self.set("NOMAD_CPU_LIMIT", resources.cpu_mhz.to_string());
        self.set("NOMAD_MEMORY_LIMIT", resources.memory_mib.to_string());
        let most = granted.map_or(origin.task.memory_max_mib, |granted| granted.memory_max_mib);
        if most > 0 {
            self.set("NOMAD_MEMORY_MAX_LIMIT", most.to_string());
        }
    }
}

/// Merges the free facts of a job, its group and its task; the narrower wins.
pub fn merged_meta(job: &Job, group: Option<&TaskGroup>, task: &Task) -> BTreeMap<String, String> {
    let mut merged = job.meta.clone();
    merged.extend(group.map(|group| group.meta.clone()).unwrap_or_default());
    merged.extend(task.meta.clone());
    merged
}

/// Finds the port that a label or a number names, as host address and host port. Ports of the
/// named task come before those of the group.
pub fn find_port<'a>(
    ports: &'a [AllocatedPort],
    task: Option<&str>,
    label: &str,
) -> Option<&'a AllocatedPort> {
    let labelled = || ports.iter().filter(|port| port.label == label);
    labelled()
        .find(|port| task.is_some() && port.task.as_deref() == task)
        .or_else(|| labelled().find(|port| port.task.is_none()))
        .or_else(|| labelled().next())
}

fn clean_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Replaces `${name}` wherever `resolve` knows the name. `$${` is an escaped `${` in job files and
/// was already turned into one by the parser.
fn replace_references(text: &str, resolve: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        result.push_str(before);
        let Some(end) = reference.find('}') else {
            result.push_str(reference);
            return result;
        };
        let name = reference[2..end].trim();
        if let Some(value) = resolve(name) {
            result.push_str(&value);
            rest = &reference[end + 1..];
        } else {
            // Only the opening is passed over: what follows may hold a reference of its own.
            result.push_str("${");
            rest = &reference[2..];
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests;
