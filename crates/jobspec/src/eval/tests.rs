//! Tests of the evaluator: expressions as files write them, values as JSON.
//!
//! Where Go's evaluator and others differ, the expected value is Go's.

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::hcl;
use crate::json::value_to_json;
use crate::{Options, parse_job};

fn evaluate(expression: &str) -> String {
    match hcl::parse(&format!("x = {expression}\n"), "f") {
        Ok(body) => body
            .get("x")
            .map_or(String::new(), |entry| value_to_json(&entry.node.to_value()).to_string()),
        Err(problems) => problems.first().map_or(String::new(), |problem| problem.summary.clone()),
    }
}

#[track_caller]
fn check(expression: &str, expected: &str) {
    assert_eq!(evaluate(expression), expected, "{expression}");
}

#[test]
fn literals_are_themselves() {
    check("1", "1");
    check("-1.5", "-1.5");
    check("1e3", "1000");
    check("true", "true");
    check("null", "null");
    check(r#""a\tb\u00e9""#, r#""a\tbé""#);
    check("[1, \"a\", [true]]", r#"[1,"a",[true]]"#);
    check("{ a = 1, \"b c\" = 2, (\"d\") : 3 }", r#"{"a":1,"b c":2,"d":3}"#);
}

#[test]
fn operators_convert_numbers_and_truth_from_text() {
    check("1 + 2 * 3", "7");
    check("(1 + 2) * 3", "9");
    check("7 / 2", "3.5");
    check("6 / 2", "3");
    check("7 % 3", "1");
    check("\"5\" + 3", "8");
    check("1 < 2 && 2 <= 2 && !(3 > 4)", "true");
    check("\"true\" || false", "true");
    check("1 == 1.0", "true");
    check("\"1\" == 1", "false");
    check("1 / 0", "division by zero");
    check("[1] + 1", "this operator needs numbers, not a list and a number");
}

#[test]
fn branches_of_a_condition_have_one_type() {
    check("true ? 1 : \"a\"", r#""1""#);
    check("false ? 1 : 2", "2");
    check("true ? [] : [1]", "[]");
    check("1 ? 2 : 3", "a condition cannot be a number");
}

#[test]
fn unknown_references_stay_text() {
    check(r#""${attr.kernel.name}""#, r#""${attr.kernel.name}""#);
    check(r#""${NOMAD_ADDR_grafana-ui_http}/x""#, r#""${NOMAD_ADDR_grafana-ui_http}/x""#);
    check(r#""${env["HOME"]}-${meta.a.b}""#, r#""${env[\"HOME\"]}-${meta.a.b}""#);
    check(r#""${device.attr.memory}""#, r#""${device.attr.memory}""#);
    check("node.unique.name", r#""${node.unique.name}""#);
    check(r#""$${not.this} %%{nor} this""#, r#""${not.this} %{nor} this""#);
    check(r#"upper("${attr.x}")"#, r#""${ATTR.X}""#);
}

#[test]
fn loops_iterate_maps_by_key_and_lists_by_index() {
    check("[for v in [1, 2, 3] : v * 2 if v != 2]", "[2,6]");
    check("[for k, v in {b = 1, a = 2} : \"${k}${v}\"]", r#"["a2","b1"]"#);
    check("{for i, v in [\"a\", \"b\"] : v => i}", r#"{"a":0,"b":1}"#);
    check("{for v in [\"a\", \"b\", \"a\"] : v => v...}", r#"{"a":["a","a"],"b":["b"]}"#);
    check("{for v in [\"a\", \"a\"] : v => 1}", "the key `a` is made twice");
    check("[for a in [1, 2] : [for b in [a] : a + b]]", "[[2],[4]]");
    check("[for v in 3 : v]", "a number cannot be iterated");
}

#[test]
fn members_are_reached_by_name_index_and_splat() {
    check("{a = {b = [1, 2]}}.a.b[1]", "2");
    check("[{a = 1}, {a = 2}][*].a", "[1,2]");
    check("[{a = 1}, {a = 2}].*.a", "[1,2]");
    check("{a = 1}[\"a\"]", "1");
    check("[1].0", "1");
    check("[1][3]", "the list has 1 members, not index 3");
    check("{a = 1}.b", "there is no `b` here");
}

#[test]
fn one_interpolation_alone_keeps_its_type() {
    check(r#""${1 + 1}""#, "2");
    check(r#""${[1]}""#, "[1]");
    check(r#""a${1 + 1}""#, r#""a2""#);
    check(r#""a${[1]}""#, "a list cannot be put into text");
    check(r#""a${null}""#, "a null cannot be put into text");
}

#[test]
fn heredocs_keep_or_lose_their_indentation() {
    check("<<EOF\n  a\n   b\nEOF", r#""  a\n   b\n""#);
    check("<<-EOF\n    a\n      b\n\n    EOF", r#""a\n  b\n\n""#);
    check("<<-EOF\n  ${1}\n    a\n  EOF", r#""1\n  a\n""#);
    check("<<EOF\n{{ key \"x\" }} ${SUBPATH} $${y}\nEOF", r#""{{ key \"x\" }} ${SUBPATH} ${y}\n""#);
    check("<<EOF\nEOF", r#""""#);
}

#[test]
fn directives_choose_and_repeat() {
    check(r#""%{ if true }yes%{ else }no%{ endif }""#, r#""yes""#);
    check(r#""%{ for v in ["a", "b"] }[${v}]%{ endfor }""#, r#""[a][b]""#);
    check(r#""%{ for k, v in {b = 1, a = 2} }${k}=${v};%{ endfor }""#, r#""a=2;b=1;""#);
    check(r#""a  ${~ "b" ~}  c""#, r#""abc""#);
}

#[test]
fn trim_markers_in_heredocs_work_line_by_line() {
    check(
        "<<EOT\n%{ for v in [1, 2] ~}\n  item ${v}\n%{ endfor ~}\nend\nEOT",
        r#""  item 1\n  item 2\nend\n""#,
    );
    check(
        "<<-EOT\n  %{ for v in [1, 2] ~}\n  item ${v}\n  %{ endfor ~}\n  end\n  EOT",
        r#""  item 1\n  item 2\n  end\n""#,
    );
}

#[test]
fn endless_growth_is_stopped() {
    let mut text = String::from("locals {\n  a0 = \"0123456789abcdef\"\n");
    for n in 1..40 {
        let before = n - 1;
        writeln!(text, "  a{n} = \"${{local.a{before}}}${{local.a{before}}}\"")
            .expect("a string grows");
    }
    text.push_str("}\njob \"j\" {\n  name = local.a39\n}\n");
    let problems = parse_job(&text, "f", &Options::default()).expect_err("it grows");
    let first = problems.first().expect("there is a problem");
    assert_eq!(first.summary, "the expressions of this file produce too much text");
}

#[test]
fn endless_loops_are_stopped() {
    let inner = "[for a in range(1000): [for b in range(1000): [for c in range(1000): c]]]";
    check(inner, "the expressions of this file take too many steps");
}

#[test]
fn deep_input_does_not_exhaust_the_stack() {
    for (open, close) in
        [("[", "]"), ("(", ")"), ("{a=", "}"), ("!", ""), ("-", ""), ("upper(", ")")]
    {
        for depth in [10, 50, 70, 500] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let _any_answer = evaluate(&text);
        }
    }
    let _any_answer = evaluate(&vec!["1"; 300].join(" + "));
    let nested = (0..60).fold("1".to_owned(), |inner, _| format!("\"${{{inner}}}\""));
    let _any_answer = evaluate(&nested);
    let chain = (0..300).fold("1".to_owned(), |inner, _| format!("true ? 1 : {inner}"));
    let _any_answer = evaluate(&chain);
}

proptest! {
    #[test]
    fn no_expression_panics(text in "[a-c0-9 \"${}%\\[\\]().,:?!=<>&|+*/~\\n-]{0,60}") {
        let _any_answer = evaluate(&text);
    }

    #[test]
    fn sums_agree_with_arithmetic(a in -1000_i64..1000, b in -1000_i64..1000, c in 1_i64..100) {
        let expected = a + b * c - a / c * c;
        let text = format!("{a} + {b} * {c} - floor({a} / {c}) * {c}");
        // Division rounds down in the file and towards zero in Rust.
        let adjusted = if a % c != 0 && a < 0 { expected + c } else { expected };
        prop_assert_eq!(evaluate(&text), adjusted.to_string());
    }
}
