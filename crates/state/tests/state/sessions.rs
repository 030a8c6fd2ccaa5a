//! Examples: who may hold a key, and what happens when a session ends.

use crate::script::check;

#[test]
fn a_key_is_held_by_one_session_at_a_time() {
    check(
        "node n1 name=box                -> done
         session create s1 on=box        -> done
         session create s2 on=box        -> done
         kv acquire k 1 s1               -> written
         ? locks k                       -> k s1 #1 @4
         kv acquire k 2 s2               -> condition failed
         kv release k 2 s2               -> condition failed
         kv acquire k 3 s1               -> written
         ? locks k                       -> k s1 #1 @7
         # Locks are advice: who writes without one is not stopped, and takes it from nobody.
         kv set k 4                      -> written
         ? locks k                       -> k s1 #1 @8
         kv release k 5 s1               -> written
         ? locks k                       -> k free #1 @9
         kv acquire k 5 s2               -> written
         ? locks k                       -> k s2 #2 @10
         kv delete k                     -> written
         kv release k 5 s2               -> condition failed
         kv acquire k 6 s1               -> written
         ? locks k                       -> k s1 #1 @13",
    );
}

#[test]
fn a_session_that_does_not_exist_locks_nothing() {
    check(
        r#"kv acquire k 1 s9          -> invalid session "00000000-0000-0000-0000-000000000009"
           kv set a 1 ; acquire k 1 s9 -> invalid session "00000000-0000-0000-0000-000000000009"
           ? keys                     ->
           session renew s9           -> Session id '00000000-0000-0000-0000-000000000009' not found
           session destroy s9         -> done"#,
    );
}

#[test]
fn a_session_needs_its_node_and_checks_that_stand() {
    check(
        "session create s1 on=box                       -> Missing node registration
         node n1 name=box                               -> done
         session create s1 on=box check=other           -> Missing check 'other' registration
         catalog set box serfHealth critical            -> {}
         session create s1 on=box check=serfHealth      -> Check 'serfHealth' is in critical state
         catalog set box serfHealth warning             -> {}
         session create s1 on=box check=serfHealth      -> done
         session create s1 on=nowhere                   -> done
         ? sessions                                     -> s1 @7/7",
    );
}

#[test]
fn a_session_ends_with_what_it_stands_on() {
    let begin = "node n1 name=box                           -> done
                 session create s1 on=box check=serfHealth  -> done
                 session create s2 on=box                   -> done
                 kv acquire k 1 s1                          -> written";
    for end in ["catalog set box serfHealth critical", "catalog remove box serfHealth"] {
        check(&format!(
            "{begin}
             {end}                 -> {{}}
             ? sessions            -> s2 @3/3
             ? locks k             -> k free #1 @5
             ? index sessions:     -> 5
             ? index kv:k          -> 5"
        ));
    }
    check(&format!(
        "{begin}
         status n1 down        -> done
         ? sessions            -> s2 @3/3
         collect n1            -> done
         ? sessions            ->
         ? index sessions:     -> 6"
    ));
}

#[test]
fn after_a_session_ended_its_keys_rest_until_the_delay_is_over() {
    check(
        "node n1 name=box                      -> done
         session create s1 on=box delay=15     -> done
         session create s2 on=box              -> done
         kv acquire k 1 s1 ; acquire l 1 s1    -> written
         session destroy s1                    -> done
         ? locks                               -> k free #1 @5; l free #1 @5
         ? delays                              -> 15 s since 5; 15 s since 5
         kv acquire k 2 s2                     -> condition failed
         kv set k 3                            -> written
         # What is said of another delay does not end this one.
         session end-delay 5 lasts=14          -> done
         session end-delay 4 lasts=15          -> done
         kv acquire k 2 s2                     -> condition failed
         session end-delay 5 lasts=15          -> done
         ? delays                              ->
         kv acquire k 2 s2                     -> written
         # Without a delay the key is free at once, and no delay is longer than a minute.
         session destroy s2                    -> done
         session create s3 on=box delay=100    -> done
         kv acquire k 2 s3                     -> written
         session destroy s3                    -> done
         ? delays                              -> 60 s since 16",
    );
}

#[test]
fn keys_of_a_session_that_deletes_go_with_it() {
    check(
        "node n1 name=box                             -> done
         session create s1 on=box delay=15 delete     -> done
         session create s2 on=box                     -> done
         kv acquire k 1 s1                            -> written
         kv set l 1                                   -> written
         session destroy s1                           -> done
         ? locks                                      -> l free #0 @5
         ? index kv:k                                 -> 6
         kv acquire k 2 s2                            -> condition failed
         kv set k 2                                   -> written",
    );
}

#[test]
fn a_renewal_overtakes_an_end_by_time_that_did_not_know_of_it() {
    check(
        "node n1 name=box                -> done
         session create s1 on=box ttl=15 -> done
         session renew s1                -> done
         session expire s1 2             -> done
         ? sessions                      -> s1 @2/2
         ? index sessions:               -> 2
         session expire s1 3             -> done
         ? sessions                      ->",
    );
}
