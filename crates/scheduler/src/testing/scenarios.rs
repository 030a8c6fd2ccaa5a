//! Scenarios of the life of jobs.

use super::script::check;

const FOUR_NODES: &str = "node n1 dc=public-services\nnode n2 dc=private-services\n\
                          node n3 dc=content-connector\nnode n4 dc=backoffice\n";

#[test]
fn equal_nodes_get_one_instance_each() {
    check(
        &format!("{FOUR_NODES} job ping count=4\nplan\nwhere"),
        &["place 0,1,2,3", "n1=1 n2=1 n3=1 n4=1"],
    );
    check(
        &format!("{FOUR_NODES} job ping count=8 cpu=400\nplan\nwhere"),
        &["place 0,1,2,3,4,5,6,7", "n1=2 n2=2 n3=2 n4=2"],
    );
}

#[test]
fn datacenters_and_pools_bound_a_job() {
    check(&format!("{FOUR_NODES} job a count=2 dc=backoffice,*-services\nplan"), &["place 0,1"]);
    check(
        &format!("{FOUR_NODES} job a count=2 dc=backoffice\nplan\nwhere"),
        &["place 0,1", "n4=2"],
    );
    check(&format!("{FOUR_NODES} job a dc=nowhere\nplan"), &["blocked 1: "]);
    check(&format!("{FOUR_NODES} job a pool=gpu\nplan"), &["blocked 1: "]);
    check("node n1 pool=gpu\njob a pool=all\nplan", &["place 0"]);
}

#[test]
fn what_cannot_be_placed_says_why() {
    check("node n1\njob a count=3 cpu=400\nplan", &["place 0,1; blocked 1: cpu x1"]);
    check("node n1\njob a mem=2000\nplan", &["blocked 1: memory x1"]);
    check("node n1\njob a disk=2000\nplan", &["blocked 1: disk x1"]);
    check("node n1\njob a cores=5\nplan", &["blocked 1: cores x1"]);
    check("node n1\nnode n2\njob a driver=docker\nplan", &["blocked 1: missing drivers x2"]);
    check("node n1\njob a volume=data\nplan", &["blocked 1: missing compatible host volumes x1"]);
    check("node n1 volume=data\njob a volume=data\nplan", &["place 0"]);
    check(
        "node n1 attr.os=bsd\nnode n2\njob a rule=attr.os=linux\nplan",
        &["blocked 1: ${attr.os} = linux x2"],
    );
    check(
        "node n1\njob a count=2 port=http=80\nplan",
        &["place 0; blocked 1: network: reserved port collision http=80 x1"],
    );
    check(
        "node n1 ports=1-1\njob a count=2 port=http\nplan",
        &["place 0; blocked 1: network: dynamic port selection failed x1"],
    );
    check(
        "node n1\njob a count=2 distinct_hosts\nplan",
        &["place 0; blocked 1: distinct_hosts x1"],
    );
    check(
        "node n1 meta.r=x\nnode n2 meta.r=x\nnode n3\njob a count=2 distinct=meta.r\nplan",
        &["place 0; blocked 1: distinct_property: ${meta.r}=x used by 1 allocs x2, \
         distinct_property: missing property ${meta.r} x1"],
    );
    check("node n1\nineligible n1\njob a\nplan", &["blocked 1: "]);
}

#[test]
fn a_satisfied_job_needs_nothing() {
    check(
        "node n1\njob a count=2 port=http max_parallel=1\nplan\nsettle\nplan",
        &["deployment running; place 0,1", "settled after 0", "nothing"],
    );
    check("node n1\njob a count=0\nplan", &["nothing"]);
}

#[test]
fn wishes_order_nodes() {
    check(
        "node n1\nnode n2 meta.ssd=yes\njob a affinity=meta.ssd=yes\nplan\nwhere",
        &["place 0", "n2=1"],
    );
    check("node n1 cpu=400\nnode n2\njob a cpu=300\nplan\nwhere", &["place 0", "n1=1"]);
    let racks = "node n1 meta.r=a\nnode n2 meta.r=a\nnode n3 meta.r=b\nnode n4 meta.r=b\n";
    check(
        &format!("{racks} job w count=10 cpu=10 spread=meta.r:a/20,b/80\nplan\nwhere"),
        &["place 0,1,2,3,4,5,6,7,8,9", "n1=1 n2=1 n3=4 n4=4"],
    );
    check(
        &format!("{racks} job w count=4 cpu=10 spread=meta.r\nplan\nwhere"),
        &["place 0,1,2,3", "n1=1 n2=1 n3=1 n4=1"],
    );
}

#[test]
fn scaling_uses_the_lowest_numbers_and_frees_the_highest() {
    check(
        "node n1\njob a count=2\nplan\njob a count=4\nplan\njob a count=1\nplan\nlive",
        &[
            "place 0,1",
            "in-place 0,1; place 2,3",
            "stop 1,2,3: alloc not needed due to job update; in-place 0",
            "0:v2",
        ],
    );
    check("node n1\njob a count=3\nplan\ncomplete 1\nplan", &["place 0,1,2", "place 1"]);
}

#[test]
fn a_stopped_job_loses_everything() {
    let begin = "node n1\njob a count=2 max_parallel=1\nplan\n";
    let first = "deployment running; place 0,1";
    let last = "Cancelled because job is stopped; stop 0,1: alloc not needed due to job update";
    check(&format!("{begin} stop\nplan\nrun\nplan"), &[first, last, "nothing"]);
    check(&format!("{begin} purge\nplan"), &[first, last]);
}

#[test]
fn an_update_rolls_by_health() {
    let begin = "node n1\nnode n2\nnode n3\njob a count=3 max_parallel=1\nplan\nrun\nhealthy\n\
                 deployment succeed\njob a count=3 max_parallel=1 rev=2\nplan\nplan\n";
    let first = "deployment running; place 0,1,2";
    let second = "deployment running; stop 0: alloc is being updated due to job update; place 0";
    let third = "stop 1: alloc is being updated due to job update; place 1";
    check(
        &format!("{begin} run\nplan\nhealthy\nplan\nlive"),
        &[first, second, "nothing", "nothing", third, "0:v1 1:v1 2:v0"],
    );
    check(&format!("{begin} run\nunhealthy 0\nplan"), &[first, second, "nothing", "nothing"]);
    check(
        &format!("{begin} run\nhealthy\ndeployment pause\nplan"),
        &[first, second, "nothing", "nothing"],
    );
    check(
        &format!("{begin} run\nhealthy\ndeployment fail\nplan"),
        &[first, second, "nothing", "nothing"],
    );
    check(
        &format!("{begin} settle\nlive"),
        &[first, second, "nothing", "settled after 2", "0:v1 1:v1 2:v1"],
    );
}

#[test]
fn without_an_update_policy_everything_changes_at_once() {
    check(
        "node n1\njob a count=3\nplan\njob a count=3 rev=2\nplan",
        &["place 0,1,2", "stop 0,1,2: alloc is being updated due to job update; place 0,1,2"],
    );
}

#[test]
fn a_newer_version_overtakes_a_deployment() {
    check(
        "node n1\njob a count=2 max_parallel=1\nplan\nrun\nhealthy\njob a count=2 max_parallel=1 \
         rev=2\nplan\njob a count=2 max_parallel=1 rev=3\nplan",
        &[
            "deployment running; place 0,1",
            "deployment running; Cancelled due to newer version of job; stop 0: alloc is being \
             updated due to job update; place 0",
            "deployment running; Cancelled due to newer version of job; stop 0: alloc is being \
             updated due to job update; place 0",
        ],
    );
}

#[test]
fn canaries_run_beside_until_promoted() {
    let begin = "node n1\nnode n2\njob a count=3 max_parallel=1\nplan\nrun\nhealthy\n\
                 deployment succeed\njob a count=3 max_parallel=1 canary=1 rev=2\nplan\nplan\nrun\n\
                 healthy\nplan\nlive\n";
    let lines = [
        "deployment running; place 0,1,2",
        "deployment running but requires manual promotion; place canary 0",
        "nothing",
        "nothing",
        "0:v0 0:v1 1:v0 2:v0",
    ];
    let with = |more: &[&'static str]| -> Vec<&str> { [&lines[..], more].concat() };
    check(
        &format!("{begin} deployment promote\nplan\nsettle\nlive"),
        &with(&[
            "stop 1: alloc is being updated due to job update; stop 0: alloc not needed due to job \
             update; place 1",
            "settled after 1",
            "0:v1 1:v1 2:v1",
        ]),
    );
    check(
        &format!("{begin} deployment fail\nplan\nlive"),
        &with(&["stop 0: alloc not needed due to job update", "0:v0 1:v0 2:v0"]),
    );
    check(
        &format!("{begin} job a count=3 max_parallel=1 rev=1\nplan"),
        &with(&[
            "deployment running; Cancelled due to newer version of job; stop 0: alloc is being updated \
             due to job update; stop 0: alloc not needed due to job update; place 0",
        ]),
    );
}

#[test]
fn beside_canaries_lost_instances_come_back_in_the_old_version() {
    check(
        "node n1\njob a count=2 max_parallel=1 distinct_hosts\nnode n2\nplan\nrun\nhealthy\n\
         deployment succeed\nnode n3\njob a count=2 max_parallel=1 canary=1 rev=2 distinct_hosts\n\
         plan\nnode n4\nmigrate 1\nplan\nlive",
        &[
            "deployment running; place 0,1",
            "deployment running but requires manual promotion; place canary 0",
            "stop 1: alloc is being migrated; place v0 1",
            "0:v0 0:v1 1:v0",
        ],
    );
}

#[test]
fn blue_and_green_change_over_at_once() {
    check(
        "node n1\njob a count=3 max_parallel=3\nplan\nrun\nhealthy\ndeployment succeed\n\
         job a count=3 max_parallel=3 canary=3 rev=2 auto_promote\nplan\nrun\nhealthy\nlive\n\
         deployment promote\nplan\nlive",
        &[
            "deployment running; place 0,1,2",
            "deployment running pending automatic promotion; place canary 0,1,2",
            "0:v0 0:v1 1:v0 1:v1 2:v0 2:v1",
            "stop 0,1,2: alloc not needed due to job update",
            "0:v1 1:v1 2:v1",
        ],
    );
}

#[test]
fn a_fixed_port_on_the_only_node_is_handed_over() {
    check(
        "node n1\njob a port=http=80 max_parallel=1\nplan\nrun\nhealthy\ndeployment succeed\n\
         job a port=http=80 max_parallel=1 rev=2\nplan\nplan\nrun\nplan\nsettle\nlive",
        &[
            "deployment running; place 0",
            "deployment running; stop 0: alloc is being updated due to job update; blocked 1: \
             network: reserved port collision http=80 x1",
            "blocked 1: network: reserved port collision http=80 x1",
            "place 0",
            "settled after 0",
            "0:v1",
        ],
    );
}

#[test]
fn a_full_cluster_is_updated_within_its_limits() {
    check(
        "node n1\nnode n2\njob a count=4 cpu=500 max_parallel=1\nplan\nrun\nhealthy\n\
         deployment succeed\njob a count=4 cpu=500 max_parallel=1 rev=2\nplan\nplan\nsettle\nlive",
        &[
            "deployment running; place 0,1,2,3",
            "deployment running; stop 0: alloc is being updated due to job update; blocked 1: cpu \
             x2",
            "blocked 1: cpu x2",
            "settled after 7",
            "0:v1 1:v1 2:v1 3:v1",
        ],
    );
}

#[test]
fn an_instance_is_not_given_up_for_what_will_not_fit() {
    check(
        "node n1\njob a\nplan\njob a cpu=2000\nplan\nlive",
        &["place 0", "blocked 1: cpu x1", "0:v0"],
    );
    check(
        "node n1\njob a\nplan\njob a rule=attr.x=y\nplan\nlive",
        &["place 0", "blocked 1: ${attr.x} = y x1", "0:v0"],
    );
}

#[test]
fn distinct_hosts_do_not_hinder_an_update() {
    check(
        "node n1\njob a distinct_hosts\nplan\njob a distinct_hosts rev=2\nplan",
        &["place 0", "stop 0: alloc is being updated due to job update; place 0"],
    );
}

#[test]
fn a_lost_node_is_replaced() {
    check(
        "node n1\nnode n2\njob a count=2\nplan\nrun\ndown n1\nplan\nwhere\nup n1\nplan",
        &[
            "place 0,1",
            "stop 0: alloc is lost since its node is down (lost); place 0",
            "n2=2",
            "nothing",
        ],
    );
    check(
        "node n1\njob a\nplan\nrun\nremove n1\nplan\nnode n2\nplan",
        &["place 0", "stop 0: alloc is lost since its node is down (lost); blocked 1: ", "place 0"],
    );
    check(
        "node n1\njob a\nplan\nrun\nstop\nplan\ndown n1\nplan\nplan",
        &[
            "place 0",
            "stop 0: alloc not needed due to job update",
            "stop 0: alloc is lost since its node is down (lost)",
            "nothing",
        ],
    );
}

#[test]
fn a_draining_node_is_left() {
    check(
        "node n1\njob a count=2\nplan\nrun\nnode n2\ndrain n1\nplan\nwhere",
        &["place 0,1", "stop 0,1: alloc is being migrated; place 0,1", "n2=2"],
    );
    check(
        "node n1\njob a\nplan\nrun\ndrain n1\nplan\nnode n2\nplan",
        &["place 0", "stop 0: alloc is being migrated; blocked 1: ", "place 0"],
    );
}

#[test]
fn failed_instances_are_replaced_by_policy() {
    let job = "job a reschedule=attempts:2,interval:600,delay:30";
    check(
        &format!(
            "node n1\nnode n2\n{job}\nplan\nrun\nfail 0\nplan\nplan\nwait 30\nplan\nrun\nfail 0\n\
             plan\nwait 30\nplan\nrun\nfail 0\nplan\nwait 900\nplan"
        ),
        &[
            "place 0",
            "alloc-reschedule in 30s",
            "nothing",
            "stop 0: alloc was rescheduled because it failed; place 0",
            "alloc-reschedule in 30s",
            "stop 0: alloc was rescheduled because it failed; place 0",
            "nothing",
            "nothing",
        ],
    );
    check("node n1\njob a reschedule=none\nplan\nrun\nfail 0\nplan", &["place 0", "nothing"]);
}

#[test]
fn a_replacement_avoids_the_node_of_the_failure() {
    for _ in 0..4 {
        check(
            "node n1 cpu=200\njob a reschedule=unlimited,delay:0\nplan\nrun\nnode n2 cpu=9000\n\
             fail 0\nplan\nwhere",
            &["place 0", "stop 0: alloc was rescheduled because it failed; place 0", "n2=1"],
        );
    }
}

#[test]
fn failures_within_a_deployment_are_tried_again_until_it_fails() {
    let begin = "node n1\njob a max_parallel=1 reschedule=unlimited,delay:5\nplan\nrun\nfail 0\n\
                 plan\nwait 5\n";
    let lines = ["deployment running; place 0", "alloc-reschedule in 5s"];
    check(
        &format!("{begin} plan"),
        &[lines[0], lines[1], "stop 0: alloc was rescheduled because it failed; place 0"],
    );
    check(&format!("{begin} deployment fail\nplan"), &[lines[0], lines[1], "nothing"]);
}

#[test]
fn batch_work_is_done_once() {
    let job = "job a kind=batch count=2 reschedule=attempts:1,interval:600,delay:0";
    check(
        &format!(
            "node n1\n{job}\nplan\nrun\ncomplete 0\nfail 1\nplan\nrun\nfail 1\nplan\n{job} rev=2\n\
             plan"
        ),
        &[
            "place 0,1",
            "stop 1: alloc was rescheduled because it failed; place 1",
            "nothing",
            "place 0,1",
        ],
    );
}

#[test]
fn a_sticky_instance_stays_where_its_data_is() {
    check(
        "node n1\njob a sticky\nplan\nrun\nnode n2 cpu=100\njob a sticky rev=2\nplan\nwhere",
        &["place 0", "stop 0: alloc is being updated due to job update; place 0", "n1=1"],
    );
}

#[test]
fn removed_groups_are_stopped() {
    check(
        "node n1\njob a\nplan\njob b\nplan",
        &["place 0", "stop 0: alloc not needed due to job update; place 0"],
    );
}

#[test]
fn a_failure_that_is_due_is_not_replaced_beyond_the_count() {
    let job = "count=2 reschedule=unlimited,delay:5";
    check(
        &format!("node n1\njob a {job}\nplan\nfail 0\nplan\nwait 5\njob a count=0\nplan\nlive"),
        &[
            "place 0,1",
            "alloc-reschedule in 5s",
            "stop 0,1: alloc not needed due to job update",
            "",
        ],
    );
}

#[test]
fn an_instance_that_cannot_be_updated_does_not_hold_up_the_others() {
    check(
        "node n1 cpu=150\nnode n2 cpu=400\njob a count=2 distinct_hosts max_parallel=1\nplan\nrun\n\
         healthy\ndeployment succeed\njob a cpu=300 count=2 distinct_hosts max_parallel=1\nplan\n\
         run\nplan\nsettle\nlive",
        &[
            "deployment running; place 0,1",
            "deployment running; stop 1: alloc is being updated due to job update; place 1; \
             blocked 1: distinct_hosts x1, cpu x1",
            "nothing",
            "settled after 0",
            "0:v0 1:v1",
        ],
    );
    check(
        "node n1 cpu=150\nnode n2 cpu=400\njob a kind=system\nplan\nrun\n\
         job a kind=system cpu=300 max_parallel=1\nplan\nwait 30\nrun\nplan",
        &[
            "place 0,0",
            "stop 0: alloc is being updated due to job update; place 0; blocked 1: cpu x1",
            "blocked 1: cpu x1",
        ],
    );
}
