//! Examples: recording evaluations.

use crate::script::check;

#[test]
fn an_evaluation_that_is_over_stays_as_it_is() {
    check(
        "eval e1 web pending  -> done
         eval e1 web pending  -> done
         ? eval e1            -> pending (job at 0) @1
         eval e1 web failed   -> done
         eval e1 web pending  -> done
         ? eval e1            -> failed (job at 0) @3
         ? index evals        -> 3",
    );
}

#[test]
fn a_complete_evaluation_cancels_what_was_blocked() {
    check(
        "eval e1 web blocked            -> done
         eval e2 api blocked            -> done
         eval e3 web complete unplaced  -> done
         ? eval e1                      -> blocked (job at 0) @1
         eval e4 web complete           -> done
         ? eval e1 -> canceled evaluation \"00000000-0000-0000-0000-000000000004\" successful (job at 0) @4
         ? eval e2                      -> blocked (job at 0) @2",
    );
}

#[test]
fn a_job_has_one_blocked_evaluation_the_newest() {
    check(
        "eval e1 web blocked  -> done
         eval e2 web blocked  -> done
         ? eval e1            -> canceled existing blocked evaluation exists for job \"web\" (job at 0) @2
         ? eval e2            -> blocked (job at 0) @2",
    );
}
