//! The job itself, and the rules and wishes that job, groups and tasks share.

use cos_model::{
    Affinity, Constraint, Extras, Job, JobKey, JobKind, JobStatus, Operator, Periodic, Spread,
    SpreadTarget, Timestamp,
};

use super::group::{self, Inherited};
use super::policy;
use super::reader::Reader;

/// Fields that are kept but not executed.
const EXTRAS: [&str; 10] = [
    "Multiregion",
    "ParameterizedJob",
    "Dispatched",
    "DispatchIdempotencyToken",
    "Payload",
    "ConsulNamespace",
    "VaultNamespace",
    "UI",
    "VersionTag",
    "Secrets",
];

/// Fields that old clients send and that mean nothing any more.
const IGNORED: [&str; 5] =
    ["NomadTokenID", "ConsulToken", "VaultToken", "StatusDescription", "Vault"];

/// Reads a job. Returns nothing if not even a name could be found.
pub(super) fn decode(mut reader: Reader<'_>) -> Option<Job> {
    let given_name = reader.text("Name");
    let id = reader.text_or("ID", &given_name);
    if id.is_empty() {
        reader.error("ID", "the job has no id", "a name for the job");
        return None;
    }
    let name = if given_name.is_empty() { id.clone() } else { given_name };
    let kind = job_kind(&mut reader);
    let update = reader.map("Update").filter(|fields| policy::says_something(fields));
    let job_update =
        update.map(|fields| policy::update(fields, &reader.path_of("Update"), reader.log()));
    let inherited = Inherited {
        job_name: &name,
        kind,
        update,
        reschedule: reader.map("Reschedule"),
        migrate: reader.map("Migrate"),
    };
    let groups: Vec<_> = reader
        .objects("TaskGroups")
        .into_iter()
        .filter_map(|group| group::decode(group, &inherited))
        .collect();
    let mut extras = Extras::new();
    reader.keep(&mut extras, &EXTRAS);
    reader.ignore(&IGNORED);
    let datacenters = reader.texts("Datacenters");
    let job = Job {
        key: JobKey { namespace: reader.text_or("Namespace", "default").into(), id: id.into() },
        parent_id: reader.text("ParentID"),
        region: reader.text_or("Region", "global"),
        kind,
        priority: priority(&mut reader),
        all_at_once: reader.flag("AllAtOnce"),
        datacenters: if datacenters.is_empty() { vec!["*".to_owned()] } else { datacenters },
        node_pool: reader.text_or("NodePool", "default"),
        constraints: constraints(&mut reader),
        affinities: affinities(&mut reader),
        spreads: spreads(&mut reader),
        groups,
        update: job_update,
        periodic: reader.object("Periodic").map(periodic),
        meta: reader.text_map("Meta"),
        extras,
        stop: reader.flag("Stop"),
        version: reader.u64("Version").unwrap_or(0),
        stable: reader.flag("Stable"),
        status: status(&mut reader),
        submit_time: Timestamp(reader.integer("SubmitTime", i64::MIN, i64::MAX).unwrap_or(0)),
        create_index: reader.u64("CreateIndex").unwrap_or(0),
        modify_index: reader.u64("ModifyIndex").unwrap_or(0),
        job_modify_index: reader.u64("JobModifyIndex").unwrap_or(0),
        name,
    };
    reader.finish();
    Some(job)
}

fn job_kind(reader: &mut Reader<'_>) -> JobKind {
    match reader.text("Type").as_str() {
        "" | "service" => JobKind::Service,
        "batch" => JobKind::Batch,
        "system" => JobKind::System,
        "sysbatch" => JobKind::SysBatch,
        other => {
            let summary = format!("`{other}` is not a type of job");
            reader.error("Type", summary, "service, batch, system or sysbatch");
            JobKind::Service
        }
    }
}

fn priority(reader: &mut Reader<'_>) -> u8 {
    // Zero is how clients say "the default".
    let given = reader.integer("Priority", 0, 100).filter(|priority| *priority != 0);
    given.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(50)
}

fn status(reader: &mut Reader<'_>) -> JobStatus {
    match reader.text("Status").as_str() {
        "running" => JobStatus::Running,
        "dead" => JobStatus::Dead,
        _ => JobStatus::Pending,
    }
}

fn periodic(mut reader: Reader<'_>) -> Periodic {
    let mut specs = reader.texts("Specs");
    let spec = reader.text("Spec");
    if specs.is_empty() && !spec.is_empty() {
        specs.push(spec);
    }
    if specs.is_empty() {
        reader.error_here("a periodic job needs times", "`cron` or `crons`");
    }
    let kind = reader.text_or("SpecType", "cron");
    if kind != "cron" {
        reader.error("SpecType", format!("`{kind}` is not a kind of time"), "cron");
    }
    let periodic = Periodic {
        enabled: reader.boolean("Enabled").unwrap_or(true),
        specs,
        prohibit_overlap: reader.flag("ProhibitOverlap"),
        time_zone: reader.text_or("TimeZone", "UTC"),
    };
    reader.finish();
    periodic
}

fn operator(reader: &mut Reader<'_>) -> Operator {
    let name = reader.text("Operand");
    Operator::from_name(&name).unwrap_or_else(|| {
        let expected = "=, !=, <, <=, >, >=, regexp, version, semver, set_contains, \
                        set_contains_any, is_set, is_not_set, distinct_hosts or distinct_property";
        reader.error("Operand", format!("`{name}` is not an operator"), expected);
        Operator::Equal
    })
}

/// Reads `Constraints`.
pub(super) fn constraints(reader: &mut Reader<'_>) -> Vec<Constraint> {
    let read = |mut reader: Reader<'_>| {
        let constraint = Constraint {
            attribute: reader.text("LTarget"),
            operator: operator(&mut reader),
            value: reader.text("RTarget"),
        };
        reader.finish();
        constraint
    };
    reader.objects("Constraints").into_iter().map(read).collect()
}

fn weight(reader: &mut Reader<'_>, low: i64) -> i8 {
    let weight = reader.integer("Weight", low, 100);
    weight.and_then(|weight| i8::try_from(weight).ok()).unwrap_or(50)
}

/// Reads `Affinities`.
pub(super) fn affinities(reader: &mut Reader<'_>) -> Vec<Affinity> {
    let read = |mut reader: Reader<'_>| {
        let affinity = Affinity {
            attribute: reader.text("LTarget"),
            operator: operator(&mut reader),
            value: reader.text("RTarget"),
            weight: weight(&mut reader, -100),
        };
        reader.finish();
        affinity
    };
    reader.objects("Affinities").into_iter().map(read).collect()
}

/// Reads `Spreads`.
pub(super) fn spreads(reader: &mut Reader<'_>) -> Vec<Spread> {
    let target = |mut reader: Reader<'_>| {
        let percent = reader.integer("Percent", 0, 100).unwrap_or(0);
        let target = SpreadTarget {
            value: reader.text("Value"),
            percent: u8::try_from(percent).unwrap_or(0),
        };
        reader.finish();
        target
    };
    let read = |mut reader: Reader<'_>| {
        let spread = Spread {
            attribute: reader.text("Attribute"),
            weight: weight(&mut reader, 0),
            targets: reader.objects("SpreadTarget").into_iter().map(target).collect(),
        };
        reader.finish();
        spread
    };
    reader.objects("Spreads").into_iter().map(read).collect()
}
