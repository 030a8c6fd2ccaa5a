//! Measures what applying costs: time per placement, bytes per allocation, time per snapshot.
//!
//! Run with `cargo run --release -p cos-state --example apply_throughput`. Nothing is asserted about
//! time; the figures that matter are recorded in `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cos_model::link::AllocUpdate;
use cos_model::{
    AllocId, Allocation, ClientStatus, EvalId, EvalStatus, Evaluation, Job, Node, NodeId, Plan,
    TaskPhase, TaskState, Timestamp,
};
use cos_state::{Command, Request, State, decode_request, encode_request};

#[path = "../tests/state/samples.rs"]
#[expect(dead_code, reason = "the samples serve the tests too")]
mod samples;

/// Nodes of the cluster.
const NODES: u128 = 1000;

/// Allocations of the cluster, all placed by the plans.
const ALLOCS: u128 = 50_000;

/// Placements in one plan.
const PLACEMENTS: u128 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut bench = Bench::default();
    for number in 1..=NODES {
        let mut node = samples::node(number);
        node.capacity = samples::resources(1_000_000, 1_000_000);
        node.capacity.disk_mib = 1_000_000;
        bench.apply(Command::RegisterNode { node: Box::new(node), evals: Vec::new() });
    }
    let job = Box::new(samples::job("web"));
    bench.apply(Command::RegisterJob { job, expected_index: None, eval: None });
    bench.spent = Spent::default();

    bench.place_all();
    let placing = std::mem::take(&mut bench.spent);
    bench.report_all();
    let reporting = std::mem::take(&mut bench.spent);

    let mut out = std::io::stdout().lock();
    writeln!(out, "{ALLOCS} placements in plans of {PLACEMENTS} on {NODES} nodes")?;
    writeln!(out, "  encoded  {:>8.2} us and {:.0} bytes each", placing.encode(), placing.bytes())?;
    writeln!(out, "  decoded  {:>8.2} us each", placing.decode())?;
    writeln!(out, "  applied  {:>8.2} us each", placing.apply())?;
    writeln!(out, "{ALLOCS} reports, one entry per node")?;
    writeln!(out, "  applied  {:>8.2} us each", reporting.apply())?;
    bench.snapshot(&mut out)?;
    Ok(())
}

/// A state, and what was spent on it.
#[derive(Default)]
struct Bench {
    state: State,
    index: u64,
    spent: Spent,
}

/// Time and bytes spent on all allocations.
#[derive(Default)]
struct Spent {
    encode: Duration,
    decode: Duration,
    apply: Duration,
    bytes: usize,
}

impl Bench {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let request = Request::new(Timestamp(1), command);
        let (encode, stored) = timed(|| encode_request(&request));
        let (decode, read) = timed(|| decode_request(&stored).expect("it was just encoded"));
        // A reader holds the state before, as readers do.
        let reader = self.state.clone();
        let (apply, applied) = timed(|| self.state.apply(self.index, &read));
        assert!(applied.reply.is_ok(), "{:?}", applied.reply);
        drop(reader);
        self.spent.encode += encode;
        self.spent.decode += decode;
        self.spent.apply += apply;
        self.spent.bytes += stored.len();
    }

    fn place_all(&mut self) {
        let key = samples::job_key("web");
        for first in (0..ALLOCS).step_by(usize::try_from(PLACEMENTS).expect("it is small")) {
            let job = Arc::clone(self.state.job(&key).expect("it was registered"));
            let plan = plan(first, &job);
            self.apply(Command::ApplyPlan { plan: Box::new(plan) });
        }
    }

    fn report_all(&mut self) {
        let nodes: Vec<NodeId> = self.state.nodes().map(|node: &Arc<Node>| node.id).collect();
        for node in nodes {
            let updates = self.state.allocs_on_node(node).map(|alloc| report(alloc)).collect();
            self.apply(Command::UpdateAllocs { updates, evals: Vec::new() });
        }
    }

    fn snapshot(&self, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
        let (encode, stored) = timed(|| self.state.encode_snapshot());
        let (decode, read) = timed(|| State::decode_snapshot(&stored));
        if read? != self.state {
            return Err("what was read differs from what was written".into());
        }
        let each = figure(stored.len()) / figure(ALLOCS);
        writeln!(out, "a snapshot of all of it")?;
        writeln!(out, "  encoded  {:>8.1} ms, {each:.0} bytes per allocation", millis(encode))?;
        writeln!(out, "  decoded  {:>8.1} ms", millis(decode))?;
        Ok(())
    }
}

impl Spent {
    fn encode(&self) -> f64 {
        millis(self.encode) * 1000.0 / figure(ALLOCS)
    }

    fn decode(&self) -> f64 {
        millis(self.decode) * 1000.0 / figure(ALLOCS)
    }

    fn apply(&self) -> f64 {
        millis(self.apply) * 1000.0 / figure(ALLOCS)
    }

    fn bytes(&self) -> f64 {
        figure(self.bytes) / figure(ALLOCS)
    }
}

fn plan(first: u128, job: &Arc<Job>) -> Plan {
    let eval = Evaluation { status: EvalStatus::Pending, ..samples::eval(first + 1, "web") };
    let placements = (first..first + PLACEMENTS).map(|number| {
        // Spread the ids over the key space, as drawn ones are.
        let id = AllocId::from_bits(number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C9E_2B7D_4A61));
        let eval_id = EvalId::from_bits(first + 1);
        Allocation { id, eval_id, ..samples::alloc(number, number % NODES + 1, job) }
    });
    Plan { placements: placements.collect(), ..samples::plan(eval) }
}

fn report(alloc: &Allocation) -> AllocUpdate {
    let task = TaskState { phase: TaskPhase::Running, ..TaskState::default() };
    AllocUpdate {
        id: alloc.id,
        client_status: ClientStatus::Running,
        client_description: "Tasks are running".to_owned(),
        task_states: BTreeMap::from([("main".to_owned(), task)]),
        health: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "figures are shown with few digits")]
fn figure(count: impl TryInto<u64>) -> f64 {
    count.try_into().ok().unwrap_or(u64::MAX) as f64
}
