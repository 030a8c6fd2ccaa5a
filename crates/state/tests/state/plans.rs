//! Examples: what of a plan is applied.

use crate::script::check;

#[test]
fn a_plan_places_and_records_its_evaluation() {
    check(
        "node n1                  -> done
         job web eval=e1          -> version 0 at 2
         plan e1 web place=a1,n1  -> applied
         ? alloc a1               -> run pending of version 0 by e1 @3/3/3
         ? eval e1                -> complete (job at 0) @3
         ? index allocs           -> 3",
    );
}

#[test]
fn a_node_takes_what_fits_and_refuses_the_rest_whole() {
    check(
        "node n1 cpu=250 -> done
         node n2         -> done
         job web         -> version 0 at 3
         plan e1 web place=a1,n1 place=a2,n1 place=a3,n1 place=a4,n2 -> n1 refused: cpu
         ? alloc a1      -> none
         ? alloc a4      -> run pending of version 0 by e1 @4/4/4
         ? eval e1       -> none
         plan e1 web place=a1,n1 place=a2,n1 -> applied
         ? eval e1       -> complete (job at 0) @5
         plan e2 web place=a5,n1,cpu:51 -> n1 refused: cpu
         plan e3 web place=a5,n1,cpu:50 -> applied",
    );
}

#[test]
fn a_plan_that_must_fit_whole_changes_nothing_if_it_does_not() {
    check(
        "node n1 -> done
         node n2 cpu=50 -> done
         job web -> version 0 at 3
         plan e1 web place=a1,n1 -> applied
         plan e2 web all_at_once stop=a1 place=a2,n1 place=a3,n2 deployment=d1 -> n2 refused: cpu
         ? alloc a1 -> run pending of version 0 by e1 @4/4/4
         ? alloc a2 -> none
         ? deployment d1 -> none",
    );
}

#[test]
fn a_node_that_takes_no_work_takes_updates_in_place_only() {
    check(
        "job web -> version 0 at 1
         plan e1 web place=a1,n1 -> n1 refused: node does not exist
         node n1 -> done
         plan e1 web place=a1,n1 -> applied
         eligible n1 false -> done
         plan e2 web place=a2,n1 -> n1 refused: node is not ready for placements
         plan e2 web place=a1,n1,in:d1 deployment=d1 -> applied
         ? alloc a1 -> run pending of version 0 by e2 @4/7/7
         status n1 down missed -> done
         plan e3 web place=a2,n1 -> n1 refused: node is not ready for placements",
    );
}

#[test]
fn a_port_is_held_by_one_allocation() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1,port:80 place=a2,n1,port:80 -> n1 refused: network: reserved port collision 80
         plan e1 web place=a1,n1,port:80 -> applied
         plan e2 web place=a2,n1,port:80 -> n1 refused: network: reserved port collision 80
         plan e2 web place=a2,n1,port:22 -> n1 refused: network: reserved port collision 22
         plan e2 web place=a2,n1,port:81 -> applied",
    );
}

#[test]
fn a_stop_makes_room_when_the_agent_says_so_or_the_node_is_lost() {
    check(
        "node n1 cpu=100 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         plan e2 web stop=a1 place=a2,n1 -> n1 refused: cpu
         ? alloc a1 -> run pending of version 0 by e1 @3/3/3
         plan e3 web stop=a1 -> applied
         ? alloc a1 -> stop pending of version 0 by e3 @3/5/5
         plan e4 web place=a2,n1 -> n1 refused: cpu
         report a1 complete -> done
         plan e5 web place=a2,n1 -> applied
         plan e6 web stop=a2,lost place=a3,n1 -> applied
         ? alloc a2 -> stop lost of version 0 by e6 @8/9/9",
    );
}

#[test]
fn the_cluster_declares_only_that_an_allocation_is_over_or_out_of_reach() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         report a1 running -> done
         plan e2 web stop=a1,pending -> applied
         ? alloc a1 -> stop running (task runs) of version 0 by e2 @3/5/5
         plan e3 web stop=a1,unknown -> applied
         plan e4 web stop=a1,lost -> applied
         plan e5 web stop=a1,complete -> applied
         ? alloc a1 -> stop lost (task runs) of version 0 by e5 @3/8/8",
    );
}

#[test]
fn an_update_in_place_keeps_what_was_observed() {
    check(
        "node n1 cpu=150 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         report a1 running -> done
         hint a1 migrate -> done
         job web v=2 -> version 1 at 6
         plan e2 web place=a1,n1 -> applied
         ? alloc a1 -> run running migrate (task runs) of version 1 by e2 @3/7/7
         plan e3 web place=a1,n1,cpu:151 -> n1 refused: cpu
         plan e3 web place=a1,n1,cpu:150 -> applied
         node n1 cpu=10 -> done
         plan e4 web place=a1,n1,cpu:150 -> applied",
    );
}

#[test]
fn updates_that_grow_do_not_take_the_room_of_those_that_stay() {
    check(
        "node n1 cpu=200 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 place=a2,n1 -> applied
         plan e2 web place=a1,n1,cpu:101 place=a2,n1,cpu:100 -> n1 refused: cpu
         plan e2 web place=a1,n1,cpu:101 place=a2,n1,cpu:99 -> applied",
    );
}

#[test]
fn an_allocation_never_moves() {
    check(
        "node n1 -> done
         node n2 -> done
         job web -> version 0 at 3
         plan e1 web place=a1,n1 -> applied
         plan e2 web place=a1,n2 -> n2 refused: allocation \"00000000-0000-0000-0000-000000000001\" is another one
         plan e2 api place=a1,n1 -> n1 refused: allocation \"00000000-0000-0000-0000-000000000001\" is another one
         plan e2 web place=a2,n1 place=a2,n2 -> n2 refused: allocation \"00000000-0000-0000-0000-000000000002\" is planned twice
         ? alloc a2 -> run pending of version 0 by e2 @7/7/7",
    );
}

#[test]
fn a_replacement_is_linked_both_ways() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         report a1 failed -> done
         plan e2 web followup=a1,e3 -> applied
         ? links a1 -> previous 0 next 0 followup 3
         plan e3 web place=a2,n1,after:a1 -> applied
         ? links a1 -> previous 0 next 2 followup 3
         ? links a2 -> previous 1 next 0 followup 0
         ? alloc a1 -> run failed of version 0 by e1 @3/6/5",
    );
}

#[test]
fn what_is_not_stopped_is_not_replaced_elsewhere() {
    check(
        "node n1 cpu=100 -> done
         node n2 cpu=100 -> done
         job web -> version 0 at 3
         plan e1 web place=a1,n1,cpu:100 -> applied
         plan e2 web stop=a1 place=a2,n2,after:a1 place=a3,n1,cpu:50 -> n1 refused: cpu
         ? links a1 -> previous 0 next 0 followup 0
         ? alloc a2 -> none",
    );
}

#[test]
fn what_names_the_next_evaluations_waits_for_a_plan_in_full() {
    check(
        "node n1 cpu=100 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         plan e2 web place=a2,n1 followup=a1,e3 blocked=e4 -> n1 refused: cpu
         ? links a1 -> previous 0 next 0 followup 0
         ? eval e4 -> none
         plan e2 web failed followup=a1,e3 blocked=e4 -> applied
         ? links a1 -> previous 0 next 0 followup 3
         ? eval e4 -> blocked (job at 0) @5
         ? job web -> running version 0 @3",
    );
}

#[test]
fn a_plan_is_applied_once() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         plan e1 web place=a1,n1 -> evaluation \"00000000-0000-0000-0000-000000000001\" is already complete
         ? alloc a1 -> run pending of version 0 by e1 @3/3/3",
    );
}
