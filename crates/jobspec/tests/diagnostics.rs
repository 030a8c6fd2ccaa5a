//! What people see when a job file is wrong, word for word.

use cos_jobspec::{Options, parse_job};

#[track_caller]
fn check(text: &str, expected: &str) {
    let text = text.trim_start_matches('\n');
    let shown = match parse_job(text, "web.nomad", &Options::default()) {
        Err(problems) => problems.to_string(),
        Ok(parsed) => {
            let problems = parsed.problems();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        }
    };
    assert_eq!(shown, expected.trim_matches('\n'), "\n{shown}\n");
}

#[test]
fn a_number_with_a_unit_and_a_stray_letter_are_both_reported() {
    check(
        r#"
job "fabio" {
  group "fabio" {
    task "fabio" {
      driver = "exec"
      resources {
        network {
          port "ui" {
            static = 9998s
          }
        }
      }
    }
  }s
}
"#,
        r#"
web.nomad:8,26: letters follow a number
  8 |             static = 9998s
    |                          ^
    = expected the end of the line; a duration or size is written in quotes, such as "30s"
web.nomad:13,4: nothing follows `s`
  13 |   }s
     |    ^
     = expected `=` and a value, or `{`
"#,
    );
}

#[test]
fn unknown_names_and_wrong_kinds_are_reported_together() {
    check(
        r#"
job "web" {
  priority = "high"
  grupp "x" {}
  group "g" {
    count = true
    task "t" {
      driver = "exec"
      kill_timeout = 5.5
    }
  }
}
"#,
        r#"
web.nomad:2,14: `priority` cannot be the string `high`
  2 |   priority = "high"
    |              ^^^^^^
    = expected a whole number
web.nomad:3,3: a job has no block `grupp`
  3 |   grupp "x" {}
    |   ^^^^^
    = expected one of affinity, all_at_once, constraint, consul_token, datacenters, group, id, meta, migrate, multiregion, name, namespace, node_pool, parameterized, periodic, priority, region, reschedule, spread, type, ui, update, vault_token
web.nomad:5,13: `count` cannot be the bool `true`
  5 |     count = true
    |             ^^^^
    = expected a whole number
web.nomad:8,22: `kill_timeout` cannot be the number `5.5`
  8 |       kill_timeout = 5.5
    |                      ^^^
    = expected a duration in quotes, such as "30s"
"#,
    );
}

#[test]
fn mistakes_in_values_are_found_at_their_line() {
    check(
        r#"
job "web" {
  type = "servce"
  group "g" {
    network {
      port "a" {}
      port "b" { static = 70000 }
    }
    task "t" {
      constraint {
        attribute = "${attr.kernel.name}"
        operator  = "=~"
        value     = "linux"
      }
      driver = "exec"
    }
  }
}
"#,
        r#"
web.nomad:2,3: `servce` is not a type of job
  2 |   type = "servce"
    |   ^^^^
    = expected service, batch, system or sysbatch
web.nomad:6,18: the value cannot be the number `70000`
  6 |       port "b" { static = 70000 }
    |                  ^^^^^^
    = expected a whole number from 0 to 65535
web.nomad:11,9: `=~` is not an operator
  11 |         operator  = "=~"
     |         ^^^^^^^^
     = expected =, !=, <, <=, >, >=, regexp, version, semver, set_contains, set_contains_any, is_set, is_not_set, distinct_hosts or distinct_property
"#,
    );
}

#[test]
fn rules_are_checked_at_their_line_too() {
    check(
        r#"
job "web" {
  type = "system"
  group "g" {
    count = 3
    service {
      port = "http"
    }
    task "t" {
      driver = "rkt"
      resources {
        memory = 5
      }
    }
  }
}
"#,
        r#"
web.nomad:4,5: a system job runs once on each node: count is 0 or 1
  4 |     count = 3
    |     ^^^^^
web.nomad:6,7: the port `http` is not declared in a network block
  6 |       port = "http"
    |       ^^^^
web.nomad:9,7: the driver `rkt` is not supported yet
  9 |       driver = "rkt"
    |       ^^^^^^
web.nomad:11,9: the task asks for less than 10 MiB of memory
  11 |         memory = 5
     |         ^^^^^^
"#,
    );
}

#[test]
fn evaluation_says_what_is_missing() {
    check(
        r#"
variable "n" {
  type    = number
  default = 1
}
job "web" {
  name = "${var.m}-${local.x}"
  priority = nope(1)
}
"#,
        r#"
web.nomad:6,13: the variable `m` is not declared
  6 |   name = "${var.m}-${local.x}"
    |             ^^^^^
    = expected a block `variable "m" { … }` in this file
web.nomad:7,14: there is no function `nope`
  7 |   priority = nope(1)
    |              ^^^^
"#,
    );
}

#[test]
fn files_without_a_job_or_with_two_are_refused() {
    check("", "web.nomad:1,1: this file holds no job; expected `job \"name\" { … }`");
    check(
        "job \"a\" {}\njob \"b\" {}\n",
        r#"
web.nomad:2,5: this file holds a second job
  2 | job "b" {}
    |     ^^^
    = expected one job in each file
"#,
    );
    check(
        "service = 1\n",
        "
web.nomad:1,1: `service` has no place at the top of a job file
  1 | service = 1
    | ^^^^^^^
    = expected job, variable, variables or locals
",
    );
    check(
        "job {}\n",
        r#"
web.nomad:1,1: the block `job` has no label
  1 | job {}
    | ^^^
    = expected `job "name" { … }`
"#,
    );
}

#[test]
fn a_file_that_is_only_nearly_of_the_new_language_is_not_taken_for_an_old_one() {
    check(
        "job \"a\" {\n  name = \"${upper(\"x\")}\",\n}\n",
        r#"
web.nomad:2,25: unexpected `,`
  2 |   name = "${upper("x")}",
    |                         ^
    = expected the end of the line
"#,
    );
    check(
        "job \"a\" {\n  priority = 1,\n  priority = 2,\n}\n",
        r"
web.nomad:3,3: `priority` is given twice
  3 |   priority = 2,
    |   ^^^^^^^^
    = expected one value
",
    );
}

#[test]
fn an_unclosed_brace_is_named_where_it_opens() {
    check(
        "job \"a\" {\n  group \"g\" {\n    count = 1\n  }\n",
        r#"
web.nomad:1,9: this `{` is not closed
  1 | job "a" {
    |         ^
    = expected `}` before the end of the file
"#,
    );
}

#[test]
fn json_has_lines_as_well() {
    check(
        "{\n  \"Job\": {\n    \"ID\": \"a\",\n    \"Type\": \"x\"\n  }\n}\n",
        r#"
web.nomad:4,5: `x` is not a type of job
  4 |     "Type": "x"
    |     ^^^^^^
    = expected service, batch, system or sysbatch
"#,
    );
}
