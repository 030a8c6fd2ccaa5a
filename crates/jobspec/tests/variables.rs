//! Variables, locals and `dynamic` blocks: where values come from, and which are refused.

use cos_jobspec::json::job_to_json;
use cos_jobspec::{Options, parse_job};
use serde_json::{Value, json};

const TEXT: &str = r#"
variable "a" { default = "default" }
variable "b" { default = "default" }
variable "c" { default = "default" }
variable "d" { default = "default" }
variable "count" {
  type = number
  validation {
    condition     = var.count > 0
    error_message = "The count must be positive."
  }
}
variable "dcs" {
  type    = list(string)
  default = ["dc1"]
}
locals {
  name  = "${local.base}-${var.a}"
  base  = "x"
  ports = { http = 80, admin = 81 }
}
job "j" {
  name        = local.name
  datacenters = var.dcs
  meta {
    b = var.b
    c = var.c
    d = var.d
  }
  group "g" {
    count = var.count
    network {
      dynamic "port" {
        for_each = local.ports
        labels   = [port.key]
        content {
          static = port.value
        }
      }
    }
    dynamic "task" {
      for_each = ["one", "two"]
      iterator = each
      labels   = ["${each.value}-${each.key}"]
      content {
        driver = upper(each.value) == "ONE" ? "exec" : "raw_exec"
      }
    }
  }
}
"#;

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Options with a count, which has no default, and one more flag.
fn with(name: &str, value: &str) -> Options {
    Options { variables: vec![pair("count", "1"), pair(name, value)], ..Options::default() }
}

#[track_caller]
fn check(options: &Options, rows: &[(&str, Value)]) {
    let parsed = parse_job(TEXT, "f", options).unwrap_or_else(|problems| panic!("{problems}"));
    let encoded = job_to_json(&parsed.job);
    for (path, expected) in rows {
        assert_eq!(encoded.pointer(path), Some(expected), "{path}");
    }
}

#[track_caller]
fn check_refused(options: &Options, expected: &str) {
    let problems = parse_job(TEXT, "f", options).expect_err("it is refused");
    assert_eq!(problems.first().map(|problem| problem.summary.as_str()), Some(expected));
}

#[test]
fn values_come_from_defaults_environment_files_and_flags_in_this_order() {
    let options = Options {
        environment: vec![
            pair("NOMAD_VAR_b", "environment"),
            pair("NOMAD_VAR_c", "environment"),
            pair("NOMAD_VAR_d", "environment"),
            pair("NOMAD_VAR_unknown", "ignored"),
        ],
        variable_files: vec![pair("x.vars", "c = \"file\"\nd = \"file\"\ndcs = [\"a\", \"b\"]\n")],
        variables: vec![pair("d", "flag"), pair("count", "3")],
        ..Options::default()
    };
    check(
        &options,
        &[
            ("/Name", json!("x-default")),
            ("/Meta", json!({"b": "environment", "c": "file", "d": "flag"})),
            ("/Datacenters", json!(["a", "b"])),
            ("/TaskGroups/0/Count", json!(3)),
        ],
    );
}

#[test]
fn dynamic_blocks_are_made_for_each_member() {
    check(
        &with("a", "y"),
        &[
            ("/Name", json!("x-y")),
            ("/TaskGroups/0/Networks/0/ReservedPorts/0/Label", json!("admin")),
            ("/TaskGroups/0/Networks/0/ReservedPorts/1/Value", json!(80)),
            ("/TaskGroups/0/Tasks/0/Name", json!("one-0")),
            ("/TaskGroups/0/Tasks/0/Driver", json!("exec")),
            ("/TaskGroups/0/Tasks/1/Driver", json!("raw_exec")),
        ],
    );
}

#[test]
fn wrong_values_are_refused() {
    check_refused(&Options::default(), "the variable `count` has no value");
    check_refused(&with("count", "0"), "The count must be positive.");
    check_refused(&with("count", "x"), "the value of `count` has the wrong type");
    check_refused(&with("dcs", "]"), "unexpected `]`, invalid expression");
    check_refused(&with("dcs", "{}"), "the value of `dcs` has the wrong type");
}

#[test]
fn values_for_nobody_are_errors_or_warnings() {
    check_refused(&with("nope", "1"), "the job declares no variable `nope`");
    let lax = Options { strict: false, ..with("nope", "1") };
    let parsed = parse_job(TEXT, "f", &lax).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(parsed.warnings.len(), 1);
}
