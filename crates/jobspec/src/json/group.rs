//! Task groups, their networks and volumes.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::job::{Scaling, VolumeRequest};
use cos_model::network::Dns;
use cos_model::{Disconnect, Extras, JobKind, Network, Port, TaskGroup, Update, Value};

use super::reader::{Reader, overlay};
use super::{job, policy, service, task};

/// Fields that are kept but not executed.
const EXTRAS: [&str; 6] = [
    "Consul",
    "MaxRunDuration",
    "StopAfterClientDisconnect",
    "MaxClientDisconnect",
    "PreventRescheduleOnLost",
    "Vault",
];

/// What a group takes from its job.
pub(super) struct Inherited<'a> {
    pub(super) job_name: &'a str,
    pub(super) kind: JobKind,
    pub(super) update: Option<&'a BTreeMap<String, Value>>,
    pub(super) reschedule: Option<&'a BTreeMap<String, Value>>,
    pub(super) migrate: Option<&'a BTreeMap<String, Value>>,
}

/// Reads a group. Returns nothing if it has no name.
pub(super) fn decode(mut reader: Reader<'_>, inherited: &Inherited<'_>) -> Option<TaskGroup> {
    let name = reader.text("Name");
    if name.is_empty() {
        reader.error("Name", "the group has no name", "a name");
        return None;
    }
    let kind = inherited.kind;
    let given_count = reader.u32("Count");
    let scaling = reader.object("Scaling").map(|scaling| read_scaling(scaling, given_count));
    let count = given_count.or_else(|| scaling.as_ref().map(|scaling| scaling.min)).unwrap_or(1);
    let own_restart = reader.map("RestartPolicy");
    let restart =
        policy::restart(own_restart, kind, &reader.path_of("RestartPolicy"), reader.log());
    let surroundings = task::Surroundings {
        job_name: inherited.job_name,
        group_name: &name,
        kind,
        restart: own_restart,
    };
    let tasks = reader
        .objects("Tasks")
        .into_iter()
        .filter_map(|task| task::decode(task, &surroundings))
        .collect();
    let names = service::Names { job: inherited.job_name, group: &name, task: None };
    let services =
        reader.objects("Services").into_iter().map(|s| service::decode(s, &names)).collect();
    let disk = read_disk(&mut reader);
    let disconnect = read_disconnect(&mut reader);
    let mut extras = Extras::new();
    reader.keep(&mut extras, &EXTRAS);
    let reschedule = overlay(inherited.reschedule, reader.map("ReschedulePolicy"));
    let migrate = overlay(inherited.migrate, reader.map("Migrate"));
    let log = reader.log();
    let group = TaskGroup {
        count,
        constraints: job::constraints(&mut reader),
        affinities: job::affinities(&mut reader),
        spreads: job::spreads(&mut reader),
        tasks,
        networks: reader.objects("Networks").into_iter().map(network).collect(),
        services,
        ephemeral_disk_mib: disk.0,
        sticky_disk: disk.1,
        migrate_disk: disk.2,
        update: read_update(&mut reader, inherited),
        reschedule: policy::reschedule(
            reschedule.as_ref(),
            kind,
            &reader.path_of("ReschedulePolicy"),
            log,
        ),
        migrate: policy::migrate(migrate.as_ref(), kind, &reader.path_of("Migrate"), log),
        disconnect,
        restart,
        volumes: reader
            .named_objects("Volumes")
            .into_iter()
            .map(|(name, volume)| (name.to_owned(), volume_request(volume)))
            .collect(),
        meta: reader.text_map("Meta"),
        shutdown_delay: reader.duration("ShutdownDelay").unwrap_or_default(),
        scaling,
        extras,
        name,
    };
    reader.finish();
    Some(group)
}

/// The block, or the three older keys that say parts of it.
fn read_disconnect(reader: &mut Reader<'_>) -> Option<Disconnect> {
    let block = reader.object("Disconnect").map(policy::disconnect);
    let some = |time: &Duration| !time.is_zero();
    let lost_after = reader.duration("MaxClientDisconnect").filter(some);
    let stop_on_client_after = reader.duration("StopAfterClientDisconnect").filter(some);
    let stays = reader.boolean("PreventRescheduleOnLost").unwrap_or(false);
    let Some(block) = block else {
        let is_said = stays || lost_after.is_some() || stop_on_client_after.is_some();
        return is_said.then(|| Disconnect {
            lost_after,
            stop_on_client_after,
            replace: !stays,
            ..Disconnect::default()
        });
    };
    let twice = [
        ("MaxClientDisconnect", "max_client_disconnect", lost_after.is_some()),
        (
            "StopAfterClientDisconnect",
            "stop_after_client_disconnect",
            stop_on_client_after.is_some(),
        ),
        ("PreventRescheduleOnLost", "prevent_reschedule_on_lost", stays),
    ];
    for (name, key, is_said) in twice {
        if is_said {
            let summary = format!("`{key}` and a `disconnect` block exclude each other");
            reader.error(name, summary, "the block alone");
        }
    }
    Some(block)
}

/// The job's block lies under the group's; services and system jobs have one in any case.
fn read_update(reader: &mut Reader<'_>, inherited: &Inherited<'_>) -> Option<Update> {
    let own = reader.map("Update").filter(|fields| policy::says_something(fields));
    let merged = overlay(inherited.update, own);
    let path = reader.path_of("Update");
    match (merged, inherited.kind) {
        (Some(fields), _) => Some(policy::update(&fields, &path, reader.log())),
        (None, JobKind::Service | JobKind::System) => Some(Update::default()),
        (None, JobKind::Batch | JobKind::SysBatch) => None,
    }
}

/// Size, stickiness and migration of the ephemeral disk.
fn read_disk(reader: &mut Reader<'_>) -> (u64, bool, bool) {
    let Some(mut disk) = reader.object("EphemeralDisk") else { return (300, false, false) };
    let size = disk.u64("SizeMB").unwrap_or(300);
    let found = (size, disk.flag("Sticky"), disk.flag("Migrate"));
    disk.finish();
    found
}

fn read_scaling(mut reader: Reader<'_>, count: Option<u32>) -> Scaling {
    let max = reader.u32("Max");
    if max.is_none() {
        reader.error("Max", "scaling needs a largest count", "`max`");
    }
    let scaling = Scaling {
        min: reader.u32("Min").or(count).unwrap_or(1),
        max: max.unwrap_or(1),
        enabled: reader.boolean("Enabled").unwrap_or(true),
        policy: reader.value_map("Policy"),
    };
    reader.ignore(&["Type", "ID", "Namespace", "Target", "CreateIndex", "ModifyIndex"]);
    reader.finish();
    scaling
}

fn volume_request(mut reader: Reader<'_>) -> VolumeRequest {
    for name in ["Sticky", "MountOptions"] {
        if reader.get(name).is_some_and(|value| !super::reader::is_empty(value)) {
            let path = reader.path_of(name);
            reader.log().warn(&path, format!("`{name}` of volumes has no effect yet"));
        }
    }
    let volume = VolumeRequest {
        kind: reader.text("Type"),
        source: reader.text("Source"),
        read_only: reader.flag("ReadOnly"),
        per_alloc: reader.flag("PerAlloc"),
        access_mode: reader.text("AccessMode"),
        attachment_mode: reader.text("AttachmentMode"),
    };
    reader.ignore(&["Name"]);
    reader.finish();
    volume
}

/// Reads a network. Fixed ports come first, as the JSON form lists them apart.
pub(super) fn network(mut reader: Reader<'_>) -> Network {
    let mut ports: Vec<Port> = reader.objects("ReservedPorts").into_iter().map(port).collect();
    ports.extend(reader.objects("DynamicPorts").into_iter().map(port));
    let network = Network {
        mode: reader.text("Mode"),
        ports,
        mbits: reader.u32("MBits"),
        hostname: reader.text("Hostname"),
        dns: reader.object("DNS").map(|mut dns| {
            let read = Dns {
                servers: dns.texts("Servers"),
                searches: dns.texts("Searches"),
                options: dns.texts("Options"),
            };
            dns.finish();
            read
        }),
        cni_args: reader.object("CNI").map(|mut cni| cni.text_map("Args")).unwrap_or_default(),
    };
    // What the scheduler of a Nomad server fills in.
    reader.ignore(&["Device", "CIDR", "IP"]);
    reader.finish();
    network
}

fn port(mut reader: Reader<'_>) -> Port {
    let label = reader.text("Label");
    if label.is_empty() {
        reader.error("Label", "the port has no label", "a name");
    }
    let fixed = reader.integer("Value", 0, 65_535).unwrap_or(0);
    let to = reader.integer("To", -1, 65_535).unwrap_or(0);
    let port = Port {
        label,
        host_port: u16::try_from(fixed).unwrap_or(0),
        to: i32::try_from(to).unwrap_or(0),
        host_network: reader.text_or("HostNetwork", "default"),
        ignore_collision: reader.flag("IgnoreCollision"),
    };
    reader.finish();
    port
}
