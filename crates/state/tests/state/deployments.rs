//! Examples: counting, promotion, health by a user's word, the end of a deployment. The deadline
//! of the samples is 600 seconds, and the clock shows the index.

use crate::script::check;

#[test]
fn arrivals_and_verdicts_are_counted_and_move_the_deadline() {
    check(
        "node n1  -> done
         job web  -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 place=a2,n1,in:d1 -> applied
         ? deployment d1 -> running placed 2 healthy 0 unhealthy 0 canaries 0 due 603 @3
         report a1 running -> done
         ? deployment d1 -> running placed 2 healthy 0 unhealthy 0 canaries 0 due 603 @3
         report a1 running healthy=d1 -> done
         ? deployment d1 -> running placed 2 healthy 1 unhealthy 0 canaries 0 due 605 @5
         report a1 running healthy=d1 -> done
         report a2 running unhealthy=d1 -> done
         ? deployment d1 -> running placed 2 healthy 1 unhealthy 1 canaries 0 due 605 @7
         report a2 running healthy=d1 -> done
         ? alloc a2 -> run running unhealthy (task runs) of version 0 by e1 @3/7/3
         report a1 running unhealthy=d1 -> done
         ? deployment d1 -> running placed 2 healthy 0 unhealthy 2 canaries 0 due 605 @9",
    );
}

#[test]
fn a_verdict_about_another_rollout_is_passed_over() {
    check(
        "node n1  -> done
         job web  -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         report a1 running healthy=d2 -> done
         ? alloc a1 -> run running (task runs) of version 0 by e1 @3/4/3
         report a1 running healthy=d1 -> done
         job web v=2 -> version 1 at 6
         plan e2 web deployment=d2 cancel=d1 place=a1,n1,in:d2 -> applied
         ? alloc a1 -> run running (task runs) of version 1 by e2 @3/7/7
         ? deployment d1 -> cancelled placed 1 healthy 1 unhealthy 0 canaries 0 due 605 @7
         ? deployment d2 -> running placed 1 healthy 0 unhealthy 0 canaries 0 due 607 @7",
    );
}

#[test]
fn canaries_are_promoted_when_enough_are_healthy() {
    check(
        "node n1  -> done
         job web  -> version 0 at 2
         plan e1 web deployment=d1,2 place=a1,n1,in:d1,canary place=a2,n1,in:d1,canary -> applied
         ? deployment d1 -> running unpromoted placed 2 healthy 0 unhealthy 0 canaries 2 due 603 @3
         promote d1 -> Task group \"app\" has 0/2 healthy allocations
         report a1 running healthy=d1 -> done
         promote d1 -> Task group \"app\" has 1/2 healthy allocations
         promote d1 group=no -> Task group \"no\" is not part of the deployment
         report a2 running healthy=d1 -> done
         ? alloc a2 -> run running healthy canary (task runs) of version 0 by e1 @3/8/3
         promote d1 group=app -> done
         ? deployment d1 -> running placed 2 healthy 2 unhealthy 0 canaries 2 due 609 @9
         ? alloc a2 -> run running healthy (task runs) of version 0 by e1 @3/9/9
         plan e2 web place=a2,n1,in:d1,canary -> applied
         ? alloc a2 -> run running healthy (task runs) of version 0 by e2 @3/10/10",
    );
}

#[test]
fn a_deployment_that_ended_cannot_be_acted_on() {
    check(
        "deployment d1 failed -> deployment \"00000000-0000-0000-0000-000000000001\" not found
         node n1  -> done
         job web  -> version 0 at 3
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         deployment d1 failed -> done
         ? deployment d1 -> failed placed 1 healthy 0 unhealthy 0 canaries 0 due 604 @5
         deployment d1 failed -> can't fail terminal deployment
         deployment d1 paused -> can't pause terminal deployment
         deployment d1 running -> can't resume terminal deployment
         promote d1 -> can't promote terminal deployment
         health d1 +a1 -> can't set health of allocations for a terminal deployment",
    );
}

#[test]
fn success_makes_the_version_stable() {
    check(
        "node n1  -> done
         job web  -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         deployment d1 successful -> done
         ? job web -> running version 0 stable @4
         ? versions web -> 0 (stable)",
    );
}

#[test]
fn a_failure_can_bring_an_old_version_back_as_a_new_one() {
    check(
        "node n1 -> done
         job web v=1 -> version 0 at 2
         stable web 0 true -> done
         job web v=2 -> version 1 at 4
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         deployment d1 failed revert=0 eval=e2 -> done
         ? job web -> running version 2 @6
         ? eval e2 -> pending (job at 6) @6
         ? versions web -> 0 (stable); 1; 2",
    );
}

#[test]
fn a_stopped_job_is_not_brought_back() {
    check(
        "job web v=1 -> version 0 at 1
         job web v=2 -> version 1 at 2
         plan e1 web deployment=d1 -> applied
         stop web -> version 2 at 4
         deployment d1 failed revert=0 -> done
         ? job web -> dead version 2 stopped @4",
    );
}

#[test]
fn a_pause_does_not_count_as_time_without_progress() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 -> applied
         deployment d1 paused -> done
         ? deployment d1 -> paused placed 1 healthy 0 unhealthy 0 canaries 0 due 603 @4
         deployment d1 running -> done
         ? deployment d1 -> running placed 1 healthy 0 unhealthy 0 canaries 0 due 605 @5",
    );
}

#[test]
fn a_users_word_about_health_counts_and_can_be_taken_back() {
    check(
        "node n1 -> done
         job web -> version 0 at 2
         plan e1 web deployment=d1 place=a1,n1,in:d1 place=a2,n1 -> applied
         health d1 +a7 -> unknown alloc \"00000000-0000-0000-0000-000000000007\"
         health d1 +a1 +a2 -> alloc \"00000000-0000-0000-0000-000000000002\" is not part of deployment \"00000000-0000-0000-0000-000000000001\"
         ? deployment d1 -> running placed 1 healthy 0 unhealthy 0 canaries 0 due 603 @3
         health d1 -a1 -> done
         ? deployment d1 -> running placed 1 healthy 0 unhealthy 1 canaries 0 due 603 @6
         health d1 +a1 -> done
         ? deployment d1 -> running placed 1 healthy 1 unhealthy 0 canaries 0 due 607 @7
         health d1 +a1 -a1 -> done
         ? deployment d1 -> running placed 1 healthy 0 unhealthy 1 canaries 0 due 607 @8",
    );
}
