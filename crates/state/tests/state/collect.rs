//! Examples: what can be removed, and what cannot.

use crate::script::check;

#[test]
fn what_is_live_stays() {
    check(
        "node n1 -> done
         job web eval=e2 -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         collect e2 a1 d1 n1 job:web -> done
         ? eval e2       -> pending (job at 2) @2
         ? alloc a1      -> run pending of version 0 by e1 @3/3/3
         ? deployment d1 -> running placed 1 healthy 0 unhealthy 0 canaries 0 due 603 @3
         ? node n1       -> ready eligible @1
         ? job web       -> running version 0 @3
         status n1 down missed -> done
         collect n1      -> done
         ? node n1       -> down eligible @5
         plan e3 web stop=a1 -> applied
         collect a1 e1   -> done
         ? alloc a1      -> stop pending of version 0 by e3 @3/7/7
         ? eval e1       -> none",
    );
}

#[test]
fn what_is_over_goes() {
    check(
        "node n1 -> done
         job web eval=e1 -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         deployment d1 successful -> done
         stop web -> version 1 at 5
         plan e2 web stop=a1 -> applied
         report a1 complete -> done
         ? job web -> dead version 1 stopped @6
         status n1 down missed -> done
         collect e1 e2 a1 d1 n1 job:web -> done
         ? eval e1       -> none
         ? alloc a1      -> none
         ? deployment d1 -> none
         ? job web       -> none
         ? versions web  ->
         ? node n1       -> none
         ? index allocs  -> 9
         ? index jobs    -> 9",
    );
}

#[test]
fn a_dead_job_stays_dead_without_its_history() {
    check(
        "node n1 -> done
         job web kind=batch -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         report a1 complete -> done
         ? job web -> dead version 0 @4
         collect e1 a1 -> done
         ? job web -> dead version 0 @4",
    );
}

#[test]
fn a_stop_that_no_agent_will_confirm_is_over() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         plan e2 web stop=a1 -> applied
         status n1 down missed -> done
         collect n1 -> done
         collect a1 -> done
         ? alloc a1 -> none",
    );
}
