//! Rules that a job must keep before it is registered.
//!
//! [`validate()`] checks a complete job, whether it came from a file or from the API, and says
//! everything that is wrong with it at once. Places are paths of the JSON form;
//! [`crate::Parsed::problems`] turns them into lines of the file.
//!
//! # Invariants
//!
//! - A job without errors here can be scheduled, apart from facts about nodes.
//! - What this release does not execute is part of the answer: see [`unsupported()`].
//!
//! # Deliberately absent
//!
//! - Options of drivers. Drivers check those themselves.
//! - Quotas, namespaces and other facts of the cluster.

mod group;
mod service;
mod task;
mod unsupported;

use std::collections::BTreeSet;

use cos_model::{Affinity, Constraint, Job, JobKind, Operator, Spread};

pub use self::unsupported::unsupported;
use crate::diagnostic::Diagnostic;
use crate::limits::MAX_ERRORS;

/// The most instances that one job may ask for, as on Nomad's servers (`job_max_count`).
pub const MAX_JOB_COUNT: u64 = 50_000;

/// The most groups that one job may have, and the most tasks in all of them. Each evaluation looks at
/// every group, and each version of the job is kept.
pub const MAX_JOB_GROUPS: usize = 1_000;
/// See [`MAX_JOB_GROUPS`].
pub const MAX_JOB_TASKS: usize = 5_000;

/// The longest id of a job; it becomes part of names, paths and keys.
const MAX_ID_BYTES: usize = 1_024;

/// Collects what is wrong.
#[derive(Default)]
struct Findings {
    found: Vec<Diagnostic>,
}

impl Findings {
    fn error(&mut self, path: impl Into<String>, summary: impl Into<String>) {
        self.push(Diagnostic::at_path(path, summary));
    }

    fn warn(&mut self, path: impl Into<String>, summary: impl Into<String>) {
        self.push(Diagnostic::at_path(path, summary).warning());
    }

    /// Keeps a problem, unless there are enough of its kind.
    fn push(&mut self, problem: Diagnostic) {
        let alike = self.found.iter().filter(|other| other.severity == problem.severity).count();
        if alike < MAX_ERRORS {
            self.found.push(problem);
        }
    }

    /// Reports if a condition does not hold.
    fn require(&mut self, holds: bool, path: impl Into<String>, summary: impl Into<String>) {
        if !holds {
            self.error(path, summary);
        }
    }

    /// Reports names that are there twice.
    fn unique<'n>(&mut self, path: &str, what: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            if !seen.insert(name) {
                self.error(
                    format!("{path}[{index}]"),
                    format!("the {what} `{name}` is there twice"),
                );
            }
        }
    }
}

/// Checks a job. Errors refuse it; warnings are to be shown.
pub fn validate(job: &Job) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    check_job(job, &mut findings);
    for (index, group) in job.groups.iter().enumerate() {
        group::check(job, group, &format!("Job.TaskGroups[{index}]"), &mut findings);
    }
    findings.found.extend(unsupported(job));
    findings.found
}

fn check_job(job: &Job, findings: &mut Findings) {
    let id = &job.key.id;
    findings.require(!id.is_empty(), "Job.ID", "the job has no id");
    let plain = !id.chars().any(|c| c.is_whitespace() || c.is_control());
    findings.require(plain, "Job.ID", "the job's id holds spaces or control characters");
    findings.require(id.len() <= MAX_ID_BYTES, "Job.ID", "the job's id is too long");
    findings.require(!job.name.contains('\0'), "Job.Name", "the job's name holds a null character");
    findings.require(
        (1..=100).contains(&job.priority),
        "Job.Priority",
        format!("the priority {} is not from 1 to 100", job.priority),
    );
    findings.require(
        !job.datacenters.is_empty(),
        "Job.Datacenters",
        "the job names no datacenters",
    );
    let all_named = !job.datacenters.iter().any(String::is_empty);
    findings.require(all_named, "Job.Datacenters", "a datacenter has an empty name");
    findings.require(!job.groups.is_empty(), "Job.TaskGroups", "the job has no groups");
    findings.require(
        job.groups.len() <= MAX_JOB_GROUPS,
        "Job.TaskGroups",
        format!("the job has {} groups; at most {MAX_JOB_GROUPS}", job.groups.len()),
    );
    let tasks: usize = job.groups.iter().map(|group| group.tasks.len()).sum();
    findings.require(
        tasks <= MAX_JOB_TASKS,
        "Job.TaskGroups",
        format!("the job has {tasks} tasks in all; at most {MAX_JOB_TASKS}"),
    );
    findings.unique("Job.TaskGroups", "group", job.groups.iter().map(|g| g.name.as_str()));
    let total: u64 = job.groups.iter().map(|group| u64::from(group.count)).sum();
    findings.require(
        total <= MAX_JOB_COUNT,
        "Job.TaskGroups",
        format!("the job asks for {total} instances, more than {MAX_JOB_COUNT}"),
    );
    let runs_to_end = matches!(job.kind, JobKind::Batch | JobKind::SysBatch);
    findings.require(
        job.periodic.is_none() || runs_to_end,
        "Job.Periodic",
        format!("a {} job cannot be periodic", job.kind.name()),
    );
    let parameterized = job.extras.contains_key("ParameterizedJob");
    findings.require(
        !parameterized || runs_to_end,
        "Job.ParameterizedJob",
        format!("a {} job cannot be parameterized", job.kind.name()),
    );
    check_rules(
        &Rules {
            constraints: &job.constraints,
            affinities: &job.affinities,
            spreads: &job.spreads,
        },
        job.kind,
        "Job",
        findings,
    );
}

/// The rules and wishes of a job, group or task.
struct Rules<'a> {
    constraints: &'a [Constraint],
    affinities: &'a [Affinity],
    spreads: &'a [Spread],
}

fn check_rules(rules: &Rules<'_>, kind: JobKind, path: &str, findings: &mut Findings) {
    for (index, constraint) in rules.constraints.iter().enumerate() {
        let path = format!("{path}.Constraints[{index}]");
        let Constraint { attribute, operator, value } = constraint;
        check_sides(attribute, *operator, value, &path, findings);
    }
    if kind == JobKind::System && !rules.affinities.is_empty() {
        findings.error(format!("{path}.Affinities"), "a system job cannot have affinities");
    }
    for (index, affinity) in rules.affinities.iter().enumerate() {
        let path = format!("{path}.Affinities[{index}]");
        check_sides(&affinity.attribute, affinity.operator, &affinity.value, &path, findings);
        findings.require(affinity.weight != 0, path, "an affinity's weight cannot be 0");
    }
    if kind == JobKind::System && !rules.spreads.is_empty() {
        findings.error(format!("{path}.Spreads"), "a system job cannot have a spread");
    }
    for (index, spread) in rules.spreads.iter().enumerate() {
        let path = format!("{path}.Spreads[{index}]");
        findings.require(!spread.attribute.is_empty(), &path, "the spread names no attribute");
        let percent: u32 = spread.targets.iter().map(|target| u32::from(target.percent)).sum();
        findings.require(percent <= 100, &path, format!("the targets add up to {percent} percent"));
        let names = spread.targets.iter().map(|target| target.value.as_str());
        findings.unique(&format!("{path}.SpreadTarget"), "target", names);
    }
}

fn check_sides(
    attribute: &str,
    operator: Operator,
    value: &str,
    path: &str,
    findings: &mut Findings,
) {
    let has_attribute = !attribute.is_empty() || operator == Operator::DistinctHosts;
    findings.require(has_attribute, path, "the rule names no attribute");
    match operator {
        Operator::Regexp => {
            if let Err(error) = regex::Regex::new(value) {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or("").trim().trim_start_matches("error: ");
                findings.error(path, format!("`{value}` is not a regular expression: {reason}"));
            }
        }
        Operator::DistinctProperty => {
            let good = value.is_empty() || value.parse::<u32>().is_ok_and(|most| most > 0);
            findings.require(good, path, format!("`{value}` is not a number of instances"));
        }
        Operator::DistinctHosts => {
            let good = value.is_empty() || value.parse::<bool>().is_ok();
            findings.require(good, path, "distinct_hosts is true or false");
        }
        Operator::IsSet | Operator::IsNotSet => {
            findings.require(value.is_empty(), path, "is_set and is_not_set take no value");
        }
        _ => findings.require(!value.is_empty(), path, "the rule has nothing to compare with"),
    }
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
