//! Examples: registration, reachability, eligibility, drains.

use crate::script::check;

#[test]
fn a_node_is_registered_once_and_its_facts_are_taken_over() {
    check(
        "node n1           -> done
         ? node n1         -> ready eligible @1
         node n1           -> done
         ? node n1         -> ready eligible @1
         node n1 cpu=5     -> done
         ? node n1         -> ready eligible @3
         ? events n1       -> Cluster: Node registered
         ? index nodes     -> 3",
    );
}

#[test]
fn a_registration_changes_the_status_only_of_a_node_that_was_down() {
    check(
        "node n1 status=initializing      -> done
         status n1 ready Node ready       -> done
         node n1 status=initializing      -> done
         ? node n1                        -> ready eligible @2
         status n1 down Node heartbeat missed -> done
         node n1 status=initializing      -> done
         ? node n1                        -> initializing eligible @5
         ? events n1 -> Cluster: Node registered; Cluster: Node ready; Cluster: Node heartbeat missed; Cluster: Node re-registered",
    );
}

#[test]
fn a_node_with_another_secret_is_not_the_same_node() {
    check(
        "node n1             -> done
         node n1 secret=7    -> node secret ID does not match. Not registering node.
         ? node n1           -> ready eligible @1",
    );
}

#[test]
fn a_status_that_is_already_so_leaves_no_event() {
    check(
        "status n1 down gone -> node \"00000000-0000-0000-0000-000000000001\" not found
         node n1             -> done
         status n1 ready yes -> done
         ? node n1           -> ready eligible @2
         ? events n1         -> Cluster: Node registered",
    );
}

#[test]
fn only_the_last_ten_events_are_kept() {
    check(
        "node n1         -> done
         status n1 down 2  -> done
         status n1 ready 3 -> done
         status n1 down 4  -> done
         status n1 ready 5 -> done
         status n1 down 6  -> done
         status n1 ready 7 -> done
         status n1 down 8  -> done
         status n1 ready 9 -> done
         status n1 down 10 -> done
         status n1 ready 11 -> done
         ? events n1 -> Cluster: 2; Cluster: 3; Cluster: 4; Cluster: 5; Cluster: 6; Cluster: 7; Cluster: 8; Cluster: 9; Cluster: 10; Cluster: 11",
    );
}

#[test]
fn eligibility_is_for_operators_and_stays_through_registrations() {
    check(
        "node n1            -> done
         eligible n1 false  -> done
         node n1 cpu=5      -> done
         ? node n1          -> ready ineligible @3
         eligible n1 true   -> done
         ? events n1 -> Cluster: Node registered; Cluster: Node marked as ineligible for scheduling; Cluster: Node marked as eligible for scheduling",
    );
}

#[test]
fn a_drain_makes_a_node_ineligible_until_it_is_told_otherwise() {
    check(
        "node n1                 -> done
         job web                 -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         drain n1 on             -> done
         ? node n1               -> ready ineligible draining @4
         eligible n1 true        -> can not set node's scheduling eligibility to eligible while it is draining
         drain n1 on ignore_system -> done
         drain n1 off eligible   -> done
         ? node n1               -> ready eligible @7
         ? events n1 -> Cluster: Node registered; Drain: Node drain strategy set; Drain: Node drain strategy updated; Drain: Node drain disabled",
    );
}

#[test]
fn a_drain_that_left_nothing_is_complete() {
    check(
        "node n1                 -> done
         job web                 -> version 0 at 2
         plan e1 web place=a1,n1 -> applied
         job sys kind=system     -> version 0 at 4
         plan e2 sys place=a2,n1 -> applied
         drain n1 on ignore_system -> done
         plan e3 web stop=a1     -> applied
         drain n1 off            -> done
         ? node n1               -> ready ineligible @8
         ? events n1 -> Cluster: Node registered; Drain: Node drain strategy set; Drain: Node drain complete
         drain n1 off            -> done
         ? node n1               -> ready ineligible @8",
    );
}
