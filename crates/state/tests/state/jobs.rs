//! Examples: versions, enforced indexes, stopping, status.

use crate::script::check;

#[test]
fn a_version_is_a_registration_that_changes_something() {
    check(
        "job web           -> version 0 at 1
         job web           -> version 0 at 1
         job web v=2       -> version 1 at 3
         ? job web         -> pending version 1 @3
         ? versions web    -> 0; 1
         job web           -> version 2 at 4",
    );
}

#[test]
fn an_enforced_index_is_checked_in_the_words_of_the_api() {
    check(
        "job web expect=7     -> Enforcing job modify index 7: job does not exist
         job web expect=0     -> version 0 at 2
         job web v=2 expect=0 -> Enforcing job modify index 0: job already exists
         job web v=2 expect=3 -> Enforcing job modify index 3: job exists with conflicting job modify index: 2
         job web v=2 expect=2 -> version 1 at 5",
    );
}

#[test]
fn a_job_does_not_become_another_kind_of_job() {
    check(
        "job web                -> version 0 at 1
         job web kind=batch     -> cannot update job from type \"service\" to \"batch\"
         job web periodic       -> cannot update non-periodic job to being periodic
         job web parameterized  -> cannot update non-parameterized job to being parameterized
         job cron periodic      -> version 0 at 5
         job cron               -> cannot update periodic job to being non-periodic",
    );
}

#[test]
fn registrations_can_be_refused_by_the_operator() {
    check(
        "config reject   -> done
         job web         -> job registration, dispatch, and scale are disabled by the scheduler configuration
         ? job web       -> none
         config          -> done
         ? index config  -> 3
         config          -> done
         ? index config  -> 3
         job web         -> version 0 at 5",
    );
}

#[test]
fn six_versions_are_kept_and_the_last_stable_one() {
    check(
        "job web v=0 -> version 0 at 1
         stable web 0 true -> done
         job web v=1 -> version 1 at 3
         job web v=2 -> version 2 at 4
         job web v=3 -> version 3 at 5
         job web v=4 -> version 4 at 6
         job web v=5 -> version 5 at 7
         job web v=6 -> version 6 at 8
         ? versions web -> 0 (stable); 2; 3; 4; 5; 6
         stable web 5 true -> done
         job web v=7 -> version 7 at 10
         ? versions web -> 2; 3; 4; 5 (stable); 6; 7",
    );
}

#[test]
fn stability_belongs_to_a_kept_version() {
    check(
        "job web            -> version 0 at 1
         stable web 3 true  -> version 3 of job \"web\" not found
         stable web 0 true  -> done
         ? job web          -> pending version 0 stable @3
         stable web 0 true  -> done
         ? job web          -> pending version 0 stable @3
         job web v=2        -> version 1 at 5
         ? job web          -> pending version 1 @5
         stable web 0 false -> done
         ? job web          -> pending version 1 @5
         ? versions web     -> 0; 1",
    );
}

#[test]
fn a_stopped_job_is_a_new_version_and_so_is_its_return() {
    check(
        "stop web              -> job \"web\" in namespace \"default\" not found
         job web               -> version 0 at 2
         stop web eval=e1      -> version 1 at 3
         ? job web             -> pending version 1 stopped @3
         ? eval e1             -> pending (job at 3) @3
         stop web eval=e2      -> version 1 at 3
         eval e1 web complete  -> done
         eval e2 web complete  -> done
         ? job web             -> dead version 1 stopped @6
         job web               -> version 2 at 7
         ? job web             -> dead version 2 @7",
    );
}

#[test]
fn a_purged_job_is_gone_with_its_versions() {
    check(
        "job web               -> version 0 at 1
         job web v=2           -> version 1 at 2
         stop web purge eval=e1 -> version 1 at 3
         ? job web             -> none
         ? versions web        ->
         ? eval e1             -> pending (job at 3) @3
         job web               -> version 0 at 4",
    );
}

#[test]
fn a_job_is_pending_until_something_runs_and_dead_when_nothing_follows() {
    check(
        "node n1                      -> done
         job web eval=e1              -> version 0 at 2
         ? job web                    -> pending version 0 @2
         ? eval e1                    -> pending (job at 2) @2
         plan e1 web place=a1,n1      -> applied
         ? job web                    -> running version 0 @3
         report a1 failed             -> done
         ? job web                    -> dead version 0 @4
         eval e2 web pending          -> done
         ? job web                    -> pending version 0 @5
         eval e2 web complete         -> done
         ? job web                    -> dead version 0 @6",
    );
}

#[test]
fn a_job_that_waits_for_nodes_or_times_runs_until_it_is_stopped() {
    check(
        "job sys kind=system -> version 0 at 1
         ? job sys           -> running version 0 @1
         job cron periodic   -> version 0 at 2
         ? job cron          -> running version 0 @2
         stop sys            -> version 1 at 3
         ? job sys           -> dead version 1 stopped @3",
    );
}

#[test]
fn the_summary_counts_instances_by_state() {
    check(
        "node n1   -> done
         job web   -> version 0 at 2
         ? summary web -> app: none
         plan e1 web place=a1,n1 place=a2,n1 place=a3,n1 place=a4,n1,group:old failed blocked=e2 -> applied
         report a1 running -> done
         report a2 failed  -> done
         ? summary web -> app: 1 queued, 1 starting, 1 running, 1 failed; old: 1 starting
         plan e3 web stop=a3 stop=a4,lost -> applied
         ? summary web -> app: 1 running, 1 complete, 1 failed; old: 1 lost",
    );
}
