//! The checker against the definition itself, on histories small enough to try every order, and on
//! histories that are known to be good or bad.

use cos_faults::RegisterAct::{Cas, Delete, Read, Write};
use cos_faults::{
    LockAct, LockModel, Model, Operation, RegisterAct, RegisterModel, Verdict, check,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// The definition: some operations without an answer never took effect, and the others can be put
/// in an order that respects time and that the model allows.
fn is_linearizable<M: Model>(model: &M, history: &[Operation<M::Act>]) -> bool {
    fn extend<M: Model>(
        model: &M,
        state: &M::State,
        history: &[Operation<M::Act>],
        rest: &[usize],
    ) -> bool {
        if rest.iter().all(|number| history[*number].answered.is_none()) {
            return true;
        }
        rest.iter().any(|number| {
            let next = &history[*number];
            // Nothing that is left was answered before this one was asked for.
            let is_first = rest.iter().all(|other| {
                history[*other].answered.is_none_or(|answered| answered >= next.called)
            });
            let left: Vec<usize> = rest.iter().copied().filter(|other| other != number).collect();
            is_first
                && model
                    .step(state, &next.act)
                    .is_some_and(|state| extend(model, &state, history, &left))
        })
    }
    extend(model, &model.begin(), history, &(0..history.len()).collect::<Vec<_>>())
}

fn timed<A>(acts: Vec<(u64, Option<u64>, A)>) -> Vec<Operation<A>> {
    let operation = |(called, lasts, act): (u64, Option<u64>, A)| Operation {
        called,
        answered: lasts.map(|lasts| called + lasts),
        act,
    };
    acts.into_iter().map(operation).collect()
}

fn register_act() -> impl Strategy<Value = RegisterAct> {
    let value = || select(vec![1_u64, 2, 3]);
    prop_oneof![
        3 => value().prop_map(Write),
        1 => Just(Delete),
        3 => option::of(value()).prop_map(Read),
        2 => (option::of(value()), value(), option::of(any::<bool>()))
            .prop_map(|(expected, new, done)| Cas { expected, new, done }),
    ]
}

fn lock_act() -> impl Strategy<Value = LockAct> {
    (1_u32..3, any::<bool>(), option::of(any::<bool>())).prop_map(|(by, takes, done)| {
        if takes { LockAct::Acquire { by, done } } else { LockAct::Release { by, done } }
    })
}

fn history<A: std::fmt::Debug>(
    act: impl Strategy<Value = A>,
) -> impl Strategy<Value = Vec<Operation<A>>> {
    vec((0_u64..12, option::weighted(0.8, 0_u64..6), act), 0..7).prop_map(timed)
}

fn verdict(is_linearizable: bool) -> Verdict {
    if is_linearizable { Verdict::Linearizable } else { Verdict::Violated }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_register_is_judged_as_the_definition_says(history in history(register_act())) {
        let expected = is_linearizable(&RegisterModel, &history);
        prop_assert_eq!(check(&RegisterModel, &history), verdict(expected));
    }

    #[test]
    fn a_lock_is_judged_as_the_definition_says(history in history(lock_act())) {
        let expected = is_linearizable(&LockModel, &history);
        prop_assert_eq!(check(&LockModel, &history), verdict(expected));
    }

    /// What a real register did is never called a violation, however long it went on, and whatever
    /// clients did not hear of.
    #[test]
    fn what_one_machine_did_is_linearizable(
        acts in vec((0_u64..4, 0_u64..4, any::<bool>(), 0_u8..4, any::<bool>()), 1..300)
    ) {
        let (mut state, mut history) = (None, Vec::new());
        for (number, (early, late, heard, kind, guess)) in (1_u64..).zip(acts) {
            // It took effect at a time of its own, somewhere between call and answer.
            let at = 100 + number * 10;
            let act = match kind {
                0 => Write(number),
                1 => Read(state),
                2 if number % 7 == 0 => Delete,
                _ => {
                    let expected = if guess { state } else { Some(u64::MAX) };
                    Cas { expected, new: number, done: heard.then_some(guess) }
                }
            };
            state = RegisterModel.step(&state, &act).expect("the answer is right");
            let is_read = kind == 1;
            history.push(Operation {
                called: at - early * 9,
                answered: (heard || is_read).then_some(at + late * 9),
                act,
            });
        }
        prop_assert_eq!(check(&RegisterModel, &history), Verdict::Linearizable);
    }
}

fn at<A>(called: u64, answered: u64, act: A) -> Operation<A> {
    Operation { called, answered: Some(answered), act }
}

fn unknown<A>(called: u64, act: A) -> Operation<A> {
    Operation { called, answered: None, act }
}

#[track_caller]
fn register(history: &[Operation<RegisterAct>], expected: bool) {
    assert_eq!(check(&RegisterModel, history), verdict(expected), "{history:?}");
}

#[test]
fn a_lost_write_is_found() {
    register(&[at(0, 1, Write(1)), at(2, 3, Write(2)), at(4, 5, Read(Some(1)))], false);
    register(&[at(0, 1, Write(1)), at(2, 3, Read(None))], false);
    register(&[at(0, 1, Write(1)), at(2, 3, Delete), at(4, 5, Read(None))], true);
}

#[test]
fn a_stale_read_is_found_even_if_a_later_one_is_right() {
    register(
        &[
            at(0, 9, Write(1)),
            at(1, 2, Read(Some(1))),
            at(3, 4, Read(None)),
            at(5, 6, Read(Some(1))),
        ],
        false,
    );
}

#[test]
fn two_compare_and_sets_that_both_won_are_found() {
    let cas = |new| Cas { expected: Some(1), new, done: Some(true) };
    register(&[at(0, 1, Write(1)), at(2, 8, cas(2)), at(3, 7, cas(3))], false);
}

#[test]
fn an_operation_without_an_answer_may_take_effect_late_or_never() {
    register(&[unknown(0, Write(1)), at(1, 2, Read(None)), at(3, 4, Read(Some(1)))], true);
    register(&[unknown(0, Write(1)), at(1, 2, Read(None))], true);
    // But only once, and not before it was asked for.
    register(
        &[
            unknown(0, Write(1)),
            at(1, 2, Read(Some(1))),
            at(3, 4, Write(2)),
            at(5, 6, Read(Some(1))),
        ],
        false,
    );
    register(&[at(0, 1, Read(Some(1))), unknown(2, Write(1))], false);
}

#[test]
fn a_write_that_nobody_saw_may_still_explain_a_lost_race() {
    let cas = Cas { expected: Some(1), new: 3, done: Some(false) };
    register(&[at(0, 1, Write(1)), unknown(0, Write(2)), at(2, 3, cas)], true);
}

#[test]
fn a_lock_that_two_held_is_found() {
    let acquire = |by, done| LockAct::Acquire { by, done };
    let history = [at(0, 1, acquire(1, Some(true))), at(2, 3, acquire(2, Some(true)))];
    assert_eq!(check(&LockModel, &history), Verdict::Violated);
    let released = unknown(1, LockAct::Release { by: 1, done: None });
    let history = [history[0].clone(), released, history[1].clone()];
    assert_eq!(check(&LockModel, &history), Verdict::Linearizable);
}
