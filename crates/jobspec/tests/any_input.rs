//! No input makes the parsers panic or hang: noise, and job files with random damage.

use cos_jobspec::json::{job_from_json, job_to_json};
use cos_jobspec::{Options, hcl, parse_job, validate};
use proptest::prelude::*;

/// A file that uses as much of the language as fits.
const FILE: &str = r#"
variable "n" {
  type    = map(object({ a = string, b = optional(number) }))
  default = { x = { a = "1" } }
}
locals { l = [for k, v in var.n : "${k}-${v.a}" if v.b == null] }
job "web" {
  datacenters = concat(local.l, ["dc1"])
  meta = { a = true ? "x" : 1 }
  group "g" {
    dynamic "task" {
      for_each = range(2)
      labels   = ["t${task.value}"]
      content {
        driver = "docker"
        config {
          port_map { http = 80 }
        }
        template {
          data = <<-EOF
            %{ for i in [1, 2] ~}
            ${i} {{ key "x" }}
            %{ endfor ~}
          EOF
          destination = "local/x"
        }
      }
    }
    network {
      port "http" { static = 80 }
    }
  }
}
"#;

fn run(text: &str) {
    let _any_body = hcl::parse(text, "f");
    if let Ok(parsed) = parse_job(text, "f", &Options::default()) {
        let _any_problems = parsed.problems();
        let again = job_from_json(&job_to_json(&parsed.job));
        assert_eq!(again.expect("it reads back").job, parsed.job);
    }
}

#[test]
fn the_file_to_be_damaged_is_good() {
    parse_job(FILE, "f", &Options::default()).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn ten_megabytes_of_braces_are_refused_at_once() {
    let text = "{".repeat(10 << 20);
    let problems = parse_job(&text, "f", &Options::default()).expect_err("it is too large");
    assert!(problems.to_string().starts_with("f:1,1: the file has 10485760 bytes"));
    let options = Options { max_source_bytes: usize::MAX, ..Options::default() };
    let problems = parse_job(&text, "f", &options).expect_err("it is too deep");
    assert!(problems.to_string().starts_with("f:1,61: brackets are nested too deeply"));
}

#[test]
fn countless_mistakes_on_one_endless_line_are_not_all_reported() {
    for unit in ["a {} ", "x = y\n", "\"a\": 1 ", "a b ", "] "] {
        let text = unit.repeat(200_000 / unit.len());
        let problems = parse_job(&text, "f", &Options::default()).expect_err("it is wrong");
        assert!(problems.0.len() <= cos_jobspec::limits::MAX_ERRORS, "{unit}");
    }
    let fields: Vec<String> = (0..4_000).map(|n| format!("\"Unknown{n}\":{n}")).collect();
    let text = format!("{{\"ID\":\"j\",{}}}", fields.join(","));
    let parsed = parse_job(&text, "f", &Options::default()).expect("unknown fields only warn");
    assert_eq!(parsed.warnings.len(), cos_jobspec::limits::MAX_ERRORS);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[a-z0-9 ]{0,8}".prop_map(Into::into),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "Job",
            "ID",
            "Name",
            "Type",
            "TaskGroups",
            "Tasks",
            "Update",
            "Networks",
            "Services",
            "Checks",
            "Config",
            "Constraints",
            "Resources",
            "Count",
            "Meta",
            "Periodic",
            "Volumes",
            "RestartPolicy",
            "Templates",
            "ReservedPorts",
            "Value",
            "Driver",
            "Interval",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn noise_is_refused_or_read(text in "[a-f0-9 \"${}%\\[\\]().,:?!=<>#&|+*/~\\n-]{0,120}") {
        run(&text);
    }

    #[test]
    fn damaged_files_are_refused_or_read(
        at in 0..FILE.len(),
        length in 0_usize..12,
        with in "[a-z0-9{}\\[\\]\"=,$%~<\\n ]{0,4}",
    ) {
        let mut bytes = FILE.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        run(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn cut_files_are_refused_or_read(at in 0..FILE.len()) {
        run(&FILE[..at]);
    }

    #[test]
    fn any_body_is_refused_or_read(json in any_json()) {
        if let Ok(parsed) = job_from_json(&json) {
            let _any_problems = validate(&parsed.job);
            let again = job_from_json(&job_to_json(&parsed.job)).expect("it reads back");
            prop_assert_eq!(again.job, parsed.job);
        }
        let _any_answer = parse_job(&json.to_string(), "f", &Options::default());
    }
}
