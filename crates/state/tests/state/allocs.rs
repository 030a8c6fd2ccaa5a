//! Examples: reports of agents, and hints.

use crate::script::check;

#[test]
fn a_report_writes_what_is_observed() {
    check(
        "node n1                 -> done
         job web                 -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         report a1 running       -> done
         ? alloc a1              -> run running (task runs) of version 0 by e1 @3/4/3
         report a1 running       -> done
         ? alloc a1              -> run running (task runs) of version 0 by e1 @3/4/3
         report a1 running restarts=1 -> done
         ? alloc a1              -> run running (task runs) of version 0 by e1 @3/6/3
         report a9 running       -> done
         ? alloc a9              -> none
         ? index allocs          -> 6",
    );
}

#[test]
fn observed_state_goes_forward_only() {
    check(
        "node n1                 -> done
         job web                 -> version 0 at 2
         plan e1 web place=a1,n1 place=a2,n1 place=a3,n1 -> applied
         report a1 running       -> done
         report a1 pending       -> done
         ? alloc a1              -> run running of version 0 by e1 @3/5/3
         report a1 lost          -> done
         ? alloc a1              -> run running of version 0 by e1 @3/5/3
         report a1 complete      -> done
         report a1 running       -> done
         ? alloc a1              -> run complete (task runs) of version 0 by e1 @3/8/3
         report a1 failed        -> done
         ? alloc a1              -> run complete of version 0 by e1 @3/9/3",
    );
}

#[test]
fn a_lost_allocation_stays_lost_and_an_unknown_one_comes_back() {
    check(
        "node n1                 -> done
         job web                 -> version 0 at 2
         plan e1 web place=a1,n1 place=a2,n1 -> applied
         plan e2 web stop=a1,lost stop=a2,unknown -> applied
         report a1 running       -> done
         ? alloc a1              -> stop lost (task runs) of version 0 by e2 @3/5/4
         report a2 running       -> done
         ? alloc a2              -> stop running (task runs) of version 0 by e2 @3/6/4",
    );
}

#[test]
fn hints_add_up() {
    check(
        "hint a1 migrate         -> allocation \"00000000-0000-0000-0000-000000000001\" not found
         node n1                 -> done
         job web                 -> version 0 at 3
         plan e1 web place=a1,n1 -> applied
         hint a1 migrate         -> done
         hint a1 force           -> done
         ? alloc a1              -> run pending migrate force of version 0 by e1 @4/6/6
         hint a1 force           -> done
         ? alloc a1              -> run pending migrate force of version 0 by e1 @4/6/6",
    );
}
