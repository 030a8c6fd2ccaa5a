//! Laws that hold for every cluster and job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::{
    AllocHealth, Allocation, ClientStatus, DeploymentStatus, Job, Node, NodeId, NodeStatus, Plan,
    Resources,
};
use proptest::prelude::*;

use super::world::World;
use crate::demand::Demand;
use crate::nodes::NodeTable;
use crate::problem::Problem;
use crate::ranking::Ranker;

/// Small domains, so that collisions (same port, same rack, exact fit) are common.
const NODE: &str = "(cpu=[1-5]00 )?(mem=[1-4]0 )?(dc=d[12] )?(meta\\.r=[abc] )?(class=[xy] )?\
                    (driver=docker )?(ports=1-[1-4] )?";
const JOB: &str = "web count=[0-6] (cpu=[12]00 )?(mem=[12]0 )?(dc=d1 )?(driver=docker )?\
                   (port=p )?(port=q=8 )?(rule=meta\\.r=a )?(distinct_hosts )?\
                   (distinct=meta\\.r(:2)? )?(spread=meta\\.r(:a/50)? )?(affinity=meta\\.r=b )?";
const POLICY: &str = "(kind=batch |kind=system stagger=5 )?(max_parallel=[0-2] )?(canary=[0-3] )?\
                      (rev=[12] )?(reschedule=unlimited,delay:[05] )?(sticky )?\
                      (lost_after=[1-9] |stop_after=[1-9] )?(stay )?\
                      (reconcile=(keep_original|keep_replacement|longest_running) )?";

fn any_nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((NODE, 0_u8..8), 1..6).prop_map(|facts| {
        facts
            .iter()
            .zip(1_u128..)
            .map(|((facts, state), id)| {
                let mut node = super::node(&format!("{facts} id={id} name=n{id}"));
                node.address = format!("10.0.0.{id}");
                node.eligible = *state != 0;
                node.status = if *state == 1 { NodeStatus::Down } else { NodeStatus::Ready };
                node
            })
            .collect()
    })
}

fn any_job() -> impl Strategy<Value = Arc<Job>> {
    (JOB, POLICY).prop_map(|(job, policy)| super::job(&format!("{job}{policy}")))
}

fn world(nodes: &[Node], job: &Job) -> World {
    let mut world = World::default();
    world.nodes = nodes.iter().map(|node| (node.id, Arc::new(node.clone()))).collect();
    world.register(job);
    world
}

proptest! {
    /// Sound and complete, against a definition that shares no code with the rules.
    #[test]
    fn feasibility_agrees_with_the_plain_definition(nodes in any_nodes(), job in any_job()) {
        let problem = world(&nodes, &job).problem();
        let table = NodeTable::new(&problem);
        let job = problem.job.as_ref().unwrap();
        let ranker = Ranker::new(Demand::new(job, &job.groups[0]), &table, false, 0);
        for (index, slot) in table.slots().iter().enumerate() {
            let possible = ranker.concerns(index) && ranker.rejection(index).is_none();
            prop_assert_eq!(possible, could_run(slot.node, job), "{:?}", ranker.rejection(index));
        }
    }

    /// What the ranker keeps up to date is what a new one finds.
    #[test]
    fn ranking_is_exact(nodes in any_nodes(), job in any_job(), spread in any::<bool>()) {
        let problem = world(&nodes, &job).problem();
        let job = problem.job.as_ref().unwrap();
        let mut table = NodeTable::new(&problem);
        let fresh = |table: &NodeTable<'_>| {
            Ranker::new(Demand::new(job, &job.groups[0]), table, spread, 7)
        };
        let mut ranker = fresh(&table);
        for index in 0..8 {
            let none = BTreeSet::new();
            ranker.catch_up(&table);
            let kept = ranker.best(&table, &none);
            let anew = fresh(&table).best(&table, &none);
            let slots = |ranked: &[crate::ranking::Ranked]| {
                ranked.iter().map(|ranked| ranked.slot).collect::<Vec<_>>()
            };
            prop_assert_eq!(slots(&kept), slots(&anew));
            prop_assert_eq!(
                ranker.metric(&table, &kept).scores,
                fresh(&table).metric(&table, &anew).scores
            );
            let Some(slot) = kept.first().map(|ranked| ranked.slot) else { break };
            ranker.give_back(kept);
            let node = table.slots()[slot].node.id;
            let alloc = super::alloc(job, 100 + u128::from(index), node.bits(), index);
            table.place(slot, &alloc);
            if index % 3 == 2 {
                table.leave(&alloc);
            }
        }
    }

    /// The order in which nodes are given does not matter, nor do nodes that cannot be used.
    #[test]
    fn only_usable_nodes_matter(nodes in any_nodes(), job in any_job(), seed in any::<u64>()) {
        let mut first = world(&nodes, &job);
        let problem = first.problem();
        let plan = first.clone().plan_for(&problem);
        let mut mixed = problem.clone();
        mixed.nodes.sort_by_key(|node| crate::ranking::mix(seed, node.id));
        prop_assert_eq!(&plan, &first.clone().plan_for(&mixed));
        let mut fewer = problem.clone();
        let request = problem.job.as_ref().unwrap();
        fewer.nodes.retain(|node| could_run(node, request));
        let places = |plan: &Plan| {
            let place = |alloc: &Allocation| (alloc.index, alloc.node_id, alloc.ports.clone());
            plan.placements.iter().map(place).collect::<Vec<_>>()
        };
        prop_assert_eq!(places(&plan), places(&first.plan_for(&fewer)));
    }

    /// Every node that was looked at and not left open is counted under a reason, once.
    #[test]
    fn reasons_add_up(nodes in any_nodes(), job in any_job()) {
        let mut world = world(&nodes, &job);
        let problem = world.problem();
        let plan = world.plan_for(&problem);
        let is_system = problem.job.as_ref().unwrap().is_system();
        for metric in plan.eval.failed_groups.values() {
            let by_words: u32 = metric.constraint_filtered.values().sum();
            prop_assert_eq!(by_words, metric.nodes_filtered);
            let by_dimension: u32 = metric.dimension_exhausted.values().sum();
            prop_assert_eq!(by_dimension, metric.nodes_exhausted);
            let left_out = metric.nodes_filtered + metric.nodes_exhausted;
            prop_assert!(left_out <= metric.nodes_evaluated);
            prop_assert!(is_system || left_out == metric.nodes_evaluated);
            let available: u32 = metric.nodes_available.values().sum();
            prop_assert_eq!(available, metric.nodes_evaluated);
        }
        for alloc in &plan.placements {
            let metric = &alloc.metric;
            prop_assert!(metric.nodes_filtered + metric.nodes_exhausted < metric.nodes_evaluated);
            prop_assert_eq!(metric.scores[0].node_id, alloc.node_id);
        }
    }

    /// Whatever happens: nothing is over-committed (the box checks it after each plan), nothing is
    /// placed where it may not run, nothing beyond the count lives, and a plan that was just made is
    /// not made again.
    #[test]
    fn a_cluster_stays_sound(nodes in any_nodes(), jobs in prop::collection::vec(any_job(), 1..4),
                             actions in prop::collection::vec((0_u8..14, 0_u32..6), 0..30)) {
        let mut world = world(&nodes, &jobs[0]);
        let mut next_job = jobs.iter().skip(1).cycle();
        for (action, number) in actions {
            act(&mut world, action, number, &mut next_job);
            let plan = world.plan();
            check_sound(&world, &plan)?;
            let problem = without_followups(world.problem());
            let again = world.plan_for(&problem);
            prop_assert!(again.stops.is_empty(), "{:?} after {:?}", again.stops, plan);
            prop_assert!(again.placements.is_empty() && again.deployment.is_none(), "{again:?}");
        }
    }

    /// Left alone, every service and batch job comes to rest, complete or with a reason.
    #[test]
    fn a_cluster_comes_to_rest(nodes in any_nodes(), job in any_job(), next in any_job()) {
        let mut world = world(&nodes, &job);
        settle(&mut world)?;
        world.register(&next);
        let plan = settle(&mut world)?;
        let request = world.job.clone().unwrap();
        let group = &request.groups[0];
        if !request.is_system() && plan.eval.failed_groups.is_empty() {
            prop_assert_eq!(world.live_count(), group.count as usize);
        }
    }

    /// During an update without trouble, no more than `max_parallel` healthy instances are missing.
    #[test]
    fn an_update_spares_the_healthy(nodes in any_nodes(), count in 1_u32..7, parallel in 1_u32..4) {
        let job = |rev: u32| {
            super::job(&format!("web count={count} max_parallel={parallel} cpu=100 rev={rev}"))
        };
        let mut world = world(&nodes, &job(1));
        settle(&mut world)?;
        let before = world.live_count();
        world.deployment.iter_mut().for_each(|d| d.status = DeploymentStatus::Successful);
        world.register(&job(2));
        for _ in 0..60 {
            world.plan();
            let healthy = world.allocs.values().filter(|alloc| is_serving(alloc)).count();
            prop_assert!(healthy + parallel as usize >= before, "{healthy} of {before}");
            world.run_agents();
            world.become_healthy();
        }
        if before < count as usize {
            // What is missing anyway is all that may be missing, so the update has to wait.
            return Ok(());
        }
        let is_new = |alloc: &&Arc<Allocation>| alloc.job.version == 1;
        prop_assert_eq!(world.allocs.values().filter(|a| is_serving(a)).filter(is_new).count(), before);
    }
}

/// Runs the agents until a plan changes nothing any more, and returns that plan.
fn settle(world: &mut World) -> Result<Plan, TestCaseError> {
    for _ in 0..80 {
        let plan = world.plan();
        check_sound(world, &plan)?;
        let asks = plan.new_evals.iter().any(|eval| !eval.wait_until.is_never());
        let is_still = plan.placements.is_empty() && plan.stops.is_empty() && !asks;
        let all_run = world.allocs.values().all(|a| a.client_status != ClientStatus::Pending);
        if is_still && all_run {
            return Ok(plan);
        }
        world.run_agents();
        world.become_healthy();
        for group in world.deployment.iter_mut().flat_map(|d| d.groups.values_mut()) {
            group.promoted = true;
        }
        world.wait(Duration::from_secs(5));
    }
    Err(TestCaseError::fail("the cluster never came to rest"))
}

fn check_sound(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    for alloc in &plan.placements {
        let node = &world.nodes[&alloc.node_id];
        if alloc.create_index == 0 {
            prop_assert!(node.takes_work(), "{} takes no work", node.name);
        }
    }
    let Some(job) = &world.job else { return Ok(()) };
    let canarying = world.deployment.as_ref().is_some_and(|d| {
        d.groups.values().any(|group| group.desired_canaries > 0 && !group.promoted)
    });
    let mut per_node: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut counted = 0;
    let there = world.allocs.values().filter(|alloc| {
        let node = world.nodes.get(&alloc.node_id);
        node.is_some_and(|node| !node.status.is_away())
            && !alloc.is_terminal()
            && alloc.client_status != ClientStatus::Unknown
    });
    for alloc in there {
        *per_node.entry(alloc.node_id).or_default() += 1;
        counted += usize::from(!(canarying && alloc.canary));
    }
    if job.is_system() {
        prop_assert!(per_node.values().all(|live| *live == 1));
    } else {
        prop_assert!(counted <= job.groups[0].count as usize, "{counted} live");
    }
    Ok(())
}

/// A look at the same cluster by an evaluation of no special right.
fn without_followups(problem: Problem) -> Problem {
    let mut eval = (*problem.eval).clone();
    eval.id = cos_model::EvalId::from_bits(3);
    Problem { eval: Arc::new(eval), ..problem }
}

/// Does one thing to the cluster.
fn act<'a>(
    world: &mut World,
    action: u8,
    number: u32,
    jobs: &mut impl Iterator<Item = &'a Arc<Job>>,
) {
    let id = NodeId::from_bits(u128::from(number) % 5 + 1);
    let now = world.now;
    match action {
        0 => world.become_healthy(),
        1 => world.wait(Duration::from_secs(u64::from(number))),
        2 => {
            // A job keeps its kind for life.
            let kind = world.job.as_ref().unwrap().kind;
            if let Some(job) = jobs.next().filter(|job| job.kind == kind) {
                world.register(job);
            }
        }
        3 => with_node(world, id, |node| {
            node.status = if number > 2 { NodeStatus::Down } else { NodeStatus::Disconnected };
        }),
        4 => with_node(world, id, |node| node.status = NodeStatus::Ready),
        5 => with_node(world, id, |node| node.eligible = !node.eligible),
        6 => with_live(world, number, |alloc| alloc.transition.migrate = true),
        7 => with_live(world, number, |alloc| {
            alloc.client_status = ClientStatus::Failed;
            alloc.modify_time = now;
        }),
        8 => with_live(world, number, |alloc| alloc.client_status = ClientStatus::Complete),
        9 => with_live(world, number, |alloc| {
            alloc.health = Some(AllocHealth { healthy: false, at: now });
        }),
        10 => {
            for group in world.deployment.iter_mut().flat_map(|d| d.groups.values_mut()) {
                group.promoted = true;
            }
        }
        11 => {
            let status = [
                DeploymentStatus::Failed,
                DeploymentStatus::Paused,
                DeploymentStatus::Running,
                DeploymentStatus::Successful,
            ];
            let status = status[number as usize % 4];
            let active = world.deployment.iter_mut().filter(|d| d.is_active());
            active.for_each(|deployment| deployment.status = status);
        }
        _ => world.run_agents(),
    }
}

fn with_node(world: &mut World, id: NodeId, change: impl FnOnce(&mut Node)) {
    if let Some(node) = world.nodes.get_mut(&id) {
        change(Arc::make_mut(node));
    }
}

fn with_live(world: &mut World, number: u32, change: impl FnOnce(&mut Allocation)) {
    let live = world.allocs.values_mut().filter(|alloc| !alloc.is_terminal());
    if let Some(alloc) = live.into_iter().nth(number as usize) {
        change(Arc::make_mut(alloc));
    }
}

fn is_serving(alloc: &Allocation) -> bool {
    let is_up = alloc.client_status == ClientStatus::Running && !alloc.is_terminal();
    is_up && alloc.is_healthy()
}

/// Whether an empty node could run an instance: slow, obvious, and written without the rules.
fn could_run(node: &Node, job: &Job) -> bool {
    let group = &job.groups[0];
    let task = &group.tasks[0];
    let demand: Resources = task.resources;
    let rack = node.meta.get("r");
    let needs_rack = group.constraints.iter().any(|c| c.value == "2" || c.attribute.contains(".r"));
    let ports: Vec<u16> =
        group.networks.iter().flat_map(|n| n.ports.iter().map(|p| p.host_port)).collect();
    node.status == NodeStatus::Ready
        && node.eligible
        && (job.datacenters == ["*"] || job.datacenters.contains(&node.datacenter))
        && node.drivers.contains_key(&task.driver)
        && (job.constraints.is_empty() || rack.is_some_and(|rack| rack == "a"))
        && (!needs_rack || rack.is_some())
        && demand.cpu_mhz <= node.capacity.cpu_mhz
        && demand.memory_mib <= node.capacity.memory_mib
        && ports.iter().all(|port| !node.reserved_ports.contains(port))
}
