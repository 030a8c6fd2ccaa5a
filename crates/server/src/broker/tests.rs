//! The queue against scenarios written as words, and against its own invariants.

use proptest::prelude::*;

use super::*;
use crate::testing;

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000_000 + 1)
}

/// `id:job:priority[:wait]`
fn eval(text: &str) -> Arc<Evaluation> {
    let mut words = text.split(':');
    let mut number = || words.next().map(|word| word.parse::<u64>().unwrap());
    let (id, job, priority) = (number().unwrap(), number().unwrap(), number().unwrap());
    let wait_until = number().map_or(Timestamp::NEVER, |s| at(i64::try_from(s).unwrap()));
    Arc::new(Evaluation {
        id: EvalId::from_bits(id.into()),
        priority: u8::try_from(priority).unwrap(),
        create_index: id,
        wait_until,
        ..testing::eval(&format!("job{job}"))
    })
}

fn number(id: EvalId) -> String {
    id.bits().to_string()
}

/// Plays a script, one act per word, and compares what was said.
///
/// Acts: `put=…`, `get@second`, `ack=id`, `nack=id@second`, `done=id`.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut broker = Broker::default();
    let mut said = Vec::new();
    for act in script.split_whitespace() {
        let (act, argument) = act.split_once(['=', '@']).unwrap();
        let id = |text: &str| EvalId::from_bits(text.parse().unwrap());
        match act {
            "put" => broker.put(&eval(argument), at(0)),
            "get" => {
                let got = broker.dequeue(at(argument.parse().unwrap()));
                said.push(got.map_or_else(|| "-".to_owned(), |eval| number(eval.id)));
            }
            "ack" => said.extend(
                broker.ack(id(argument)).iter().map(|eval| format!("cancel{}", number(eval.id))),
            ),
            "nack" => {
                let (eval, second) = argument.split_once('@').unwrap();
                if let Nack::GiveUp(eval) = broker.nack(id(eval), at(second.parse().unwrap())) {
                    said.push(format!("failed{}", number(eval.id)));
                }
            }
            _ => {
                let over = Evaluation {
                    status: EvalStatus::Complete,
                    ..Evaluation::clone(&eval(&format!("{argument}:1:50")))
                };
                broker.put(&Arc::new(over), at(0));
            }
        }
    }
    assert_eq!(said.join(" "), expected, "{script}");
}

#[test]
fn priority_goes_before_age() {
    check("put=1:1:50 put=2:2:90 put=3:3:50 get@0 get@0 get@0 get@0", "2 1 3 -");
}

#[test]
fn a_job_has_one_outstanding_evaluation() {
    check("put=1:1:50 put=2:1:50 get@0 get@0 ack=1 get@0", "1 - 2");
}

#[test]
fn of_what_came_meanwhile_the_newest_is_kept() {
    check("put=1:1:50 get@0 put=2:1:50 put=3:1:50 put=4:1:50 ack=1 get@0", "1 cancel2 cancel3 4");
}

#[test]
fn a_delayed_evaluation_waits_for_its_time() {
    check("put=1:1:50:30 get@0 get@29 get@30", "- - 1");
}

#[test]
fn what_cannot_be_worked_off_is_tried_again_later_and_then_given_up() {
    check(
        "put=1:1:50 get@0 nack=1@0 get@0 get@1 nack=1@1 get@2 get@21 nack=1@21 get@99",
        "1 - 1 - 1 failed1 -",
    );
}

#[test]
fn what_is_over_leaves_the_queue() {
    check("put=1:1:50 done=1 get@0", "-");
}

proptest! {
    /// Whatever happens, a job never has two outstanding, and all that was put comes out once.
    #[test]
    fn nothing_is_lost_and_nothing_is_doubled(
        acts in prop::collection::vec((0_u64..12, 0_u64..3, 0_u64..3, 0_u8..4), 1..60),
    ) {
        let mut broker = Broker::default();
        let mut outstanding: BTreeMap<JobKey, EvalId> = BTreeMap::new();
        let (mut put, mut out) = (BTreeSet::new(), BTreeSet::new());
        for (step, (id, job, priority, act)) in acts.into_iter().enumerate() {
            let now = at(i64::try_from(step).unwrap());
            match act {
                0 | 1 => {
                    // The same id is always of the same job.
                    let text = format!("{id}:{}:{priority}", id % 3);
                    if !out.contains(&EvalId::from_bits(id.into())) {
                        put.insert(EvalId::from_bits(id.into()));
                        broker.put(&eval(&text), now);
                    }
                }
                2 => if let Some(eval) = broker.dequeue(now) {
                    prop_assert_eq!(outstanding.insert(eval.job.clone(), eval.id), None);
                },
                _ => if let Some(id) = outstanding.remove(&testing::key(&format!("job{job}"))) {
                    out.insert(id);
                    out.extend(broker.ack(id).iter().map(|eval| eval.id));
                },
            }
        }
        let later = at(1_000_000);
        for id in std::mem::take(&mut outstanding).into_values() {
            out.insert(id);
            out.extend(broker.ack(id).iter().map(|eval| eval.id));
        }
        while let Some(eval) = broker.dequeue(later) {
            out.insert(eval.id);
            out.extend(broker.ack(eval.id).iter().map(|eval| eval.id));
        }
        prop_assert_eq!(out, put);
        prop_assert_eq!(broker.counts(), Counts::default());
    }
}
