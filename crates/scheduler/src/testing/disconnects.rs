//! Scenarios of nodes that go out of reach and come back.

use super::script::check;

const TWO: &str = "node n1\nnode n2\n";

#[test]
fn without_a_policy_a_lost_instance_is_replaced_at_once_and_for_good() {
    check(
        &format!("{TWO}job a\nplan\nrun\naway n1\nplan\nrun\nup n1\nplan\nwhere"),
        &[
            "place 0",
            "stop 0: alloc is lost since its node is down (lost); place 0",
            "nothing",
            "n2=1",
        ],
    );
}

#[test]
fn an_instance_that_is_waited_for_is_unknown_and_replaced_meanwhile() {
    let text = |rest: &str| {
        format!("{TWO}job a lost_after=60 {rest}\nplan\nrun\naway n1\nplan\nrun\nplan\n")
    };
    let away = "unknown 0: alloc is unknown since its node is disconnected; place 0; \
                max-disconnect-timeout in 60s";
    let back = "stop 0: alloc not needed due to disconnected client reconnect";
    for (word, kept) in [("keep_original", "n1=1"), ("keep_replacement", "n2=1")] {
        check(
            &format!("{}up n1\nplan\nrun\nplan\nplan\nwhere", text(&format!("reconcile={word}"))),
            // Before its agent has spoken nothing is decided.
            &["place 0", away, "nothing", "nothing", back, "nothing", kept],
        );
    }
    // In time or never.
    check(
        &format!("{}wait 60\nplan\nup n1\nrun\nplan\nwhere", text("")),
        &[
            "place 0",
            away,
            "nothing",
            "stop 0: alloc is lost since its node is down (lost)",
            "nothing",
            "n2=1",
        ],
    );
}

#[test]
fn an_instance_that_stays_is_not_replaced_before_it_is_lost() {
    check(
        &format!("{TWO}job a lost_after=60 stay\nplan\nrun\naway n1\nplan\nwait 60\nplan\nwhere"),
        &[
            "place 0",
            "unknown 0: alloc is unknown since its node is disconnected; \
             max-disconnect-timeout in 60s",
            "stop 0: alloc is lost since its node is down (lost); place 0",
            "n2=1",
        ],
    );
    // Without a time it is waited for until somebody stops it.
    check(
        &format!(
            "{TWO}job a stay\nplan\nrun\ndown n1\nplan\nwait 9999\nplan\nmigrate 0\nplan\nwhere"
        ),
        &[
            "place 0",
            "unknown 0: alloc is unknown since its node is disconnected",
            "nothing",
            "stop 0: alloc is lost since its node is down (lost); place 0",
            "n2=1",
        ],
    );
}

#[test]
fn what_has_not_begun_is_not_waited_for() {
    check(
        &format!("{TWO}job a lost_after=60\nplan\naway n1\nplan\nwhere"),
        &["place 0", "stop 0: alloc is lost since its node is down (lost); place 0", "n2=1"],
    );
}

#[test]
fn a_replacement_that_is_away_too_gets_one_and_one_of_the_three_stays() {
    check(
        &format!(
            "{TWO}node n3\njob a lost_after=60 reconcile=keep_original\nplan\nrun\naway n1\nplan\n\
             run\naway n3\nplan\nrun\nup n3\nrun\nplan\nrun\nup n1\nrun\nplan\nrun\nwhere\nplan"
        ),
        &[
            "place 0",
            "unknown 0: alloc is unknown since its node is disconnected; place 0; \
             max-disconnect-timeout in 60s",
            "unknown 0: alloc is unknown since its node is disconnected; place 0; \
             max-disconnect-timeout in 60s",
            "stop 0: alloc not needed due to disconnected client reconnect",
            "stop 0: alloc not needed due to disconnected client reconnect",
            "n1=1",
            "nothing",
        ],
    );
}

#[test]
fn a_replacement_without_room_is_looked_for_and_the_first_goes_on_when_it_is_back() {
    check(
        "node n1 cpu=500\nnode n2 cpu=100\njob a cpu=400 lost_after=60\nplan\nrun\naway n1\nplan\nup n1\nrun\nplan\nwhere",
        &[
            "place 0",
            "unknown 0: alloc is unknown since its node is disconnected; \
             max-disconnect-timeout in 60s; blocked 1: cpu x1",
            "nothing",
            "n1=1",
        ],
    );
}

#[test]
fn scaling_down_gives_up_those_that_are_away() {
    check(
        "node n1\njob a count=2 lost_after=60\nplan\nrun\naway n1\nplan\njob a count=1 lost_after=60\n\
         plan",
        &[
            "place 0,1",
            "unknown 0,1: alloc is unknown since its node is disconnected; \
             max-disconnect-timeout in 60s; blocked 2: ",
            "stop 1: alloc not needed due to job update (lost); blocked 1: ",
        ],
    );
}

#[test]
fn a_batch_instance_that_ended_while_it_was_away_needs_no_replacement() {
    check(
        &format!(
            "{TWO}job a kind=batch lost_after=60\nplan\nrun\naway n1\nplan\nrun\nup n1\ncomplete 0\n\
             plan\nrun\nplan\nwhere"
        ),
        &[
            "place 0",
            "unknown 0: alloc is unknown since its node is disconnected; place 0; \
             max-disconnect-timeout in 60s",
            "stop 0: alloc not needed due to disconnected client reconnect",
            "nothing",
            "",
        ],
    );
}

#[test]
fn what_its_client_stops_is_replaced_when_it_must_have_stopped() {
    check(
        &format!(
            "{TWO}job a stop_after=60\nplan\nrun\ndown n1\nplan\nwait 30\nplan\nup n1\nplan\nwait 40\n\
             plan\nwhere"
        ),
        &[
            "place 0",
            "stop 0: alloc is lost since its node is down (lost); alloc-reschedule in 65s",
            "nothing",
            "nothing",
            "place 0",
            "n1=1",
        ],
    );
}

#[test]
fn a_system_instance_that_is_away_waits_for_its_node() {
    check(
        &format!(
            "{TWO}job a kind=system lost_after=60\nplan\nrun\naway n1\nplan\nplan\nup n1\nrun\nplan"
        ),
        &[
            "place 0,0",
            "unknown 0: alloc is unknown since its node is disconnected; \
             max-disconnect-timeout in 60s",
            "nothing",
            "nothing",
        ],
    );
    check(
        &format!(
            "{TWO}job a kind=system lost_after=60\nplan\nrun\naway n1\nplan\nwait 60\nplan\nup n1\nplan"
        ),
        &[
            "place 0,0",
            "unknown 0: alloc is unknown since its node is disconnected; \
             max-disconnect-timeout in 60s",
            "stop 0: alloc is lost since its node is down (lost)",
            "place 0",
        ],
    );
}
