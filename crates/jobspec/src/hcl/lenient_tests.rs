//! Tests of the tolerant parser: trees as JSON text, errors as their first lines.

use proptest::prelude::*;

use super::*;
use crate::json::value_to_json;

fn render(text: &str, notation: Notation) -> String {
    let source = Source::new("f", text);
    let outcome = parse(&source, notation);
    if outcome.errors.is_empty() {
        value_to_json(&Value::Map(outcome.body.to_map())).to_string()
    } else {
        let lines: Vec<String> = outcome
            .errors
            .iter()
            .map(|error| format!("{} {}", error.place().trim_start_matches("f:"), error.summary))
            .collect();
        lines.join("; ")
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(render(text, Notation::Hcl1), expected, "{text}");
}

#[track_caller]
fn check_json(text: &str, expected: &str) {
    assert_eq!(render(text, Notation::Json), expected, "{text}");
}

#[test]
fn attributes_stand_alone_share_a_line_or_end_in_commas() {
    check("a = 1\nb = \"x\"", r#"{"a":1,"b":"x"}"#);
    check("a = 1 b = true, c = 1.5", r#"{"a":1,"b":true,"c":1.5}"#);
    check("env { A = 1,\n B = \"2\",\n }", r#"{"env":{"A":1,"B":"2"}}"#);
}

#[test]
fn blocks_take_labels_quoted_keys_and_equals() {
    check("job \"web\" { type = \"batch\" }", r#"{"job":{"web":{"type":"batch"}}}"#);
    check("\"port_map\" = { \"http\" = 80 }", r#"{"port_map":{"http":80}}"#);
    check("port_map { http = 80 }", r#"{"port_map":{"http":80}}"#);
    check("a {} a {}", r#"{"a":[{},{}]}"#);
    check(
        "options = { driver.raw_exec.enable = \"1\" }",
        r#"{"options":{"driver.raw_exec.enable":"1"}}"#,
    );
}

#[test]
fn lists_may_be_ragged() {
    check("a = [1, 2,]", r#"{"a":[1,2]}"#);
    check("a = [\n\"x\",\n\"y\"\n]", r#"{"a":["x","y"]}"#);
    check("a = [{b = 1}, {b = 2}]", r#"{"a":[{"b":1},{"b":2}]}"#);
}

#[test]
fn numbers_have_the_forms_of_old_files() {
    check(
        "a = 0644 b = 0x1f c = -3 d = 1e3 e = 089",
        r#"{"a":420,"b":31,"c":-3,"d":1000.0,"e":89}"#,
    );
}

#[test]
fn references_stay_as_they_are() {
    check(
        r#"a = "${attr.kernel.name}-${env["X"]}""#,
        r#"{"a":"${attr.kernel.name}-${env[\"X\"]}"}"#,
    );
}

#[test]
fn heredocs_keep_their_lines() {
    check("a = <<EOF\n x\n  ${Y}\nEOF\nb = 1", r#"{"a":" x\n  ${Y}\n","b":1}"#);
    check("a = <<-EOF\n    x\n      y\n    EOF\n", r#"{"a":"x\n  y\n"}"#);
}

#[test]
fn comments_are_skipped() {
    check("# a\n// b\n/* c = 1 */ d = 2 # e\n", r#"{"d":2}"#);
}

#[test]
fn several_errors_are_found_in_one_run() {
    check("a {\n  x = 9998s\n  }s\nb = 1", "2,11 letters follow a number; 3,4 nothing follows `s`");
    check("a = foo\nb = ]", "1,5 unexpected `foo`; 2,5 unexpected `]`");
    check("a = {", "1,5 this `{` is not closed");
    check("a = [", "1,5 this `[` is not closed");
    check("a = \"x\nb = 1", "1,5 the text is not closed on its line");
    check("a = <<EOF\nx", "1,5 the heredoc is not closed before the end of the file");
}

#[test]
fn json_is_read_with_its_own_strings() {
    check_json(r#"{"a": {"b": [1, null, "${x\""]}}"#, r#"{"a":{"b":[1,null,"${x\""]}}"#);
    check_json(r#"{"a": "\u00e9\ud83d\ude00\/"}"#, r#"{"a":"é😀/"}"#);
    check_json(r#"{"a": 1} x"#, "1,10 text follows the closing bracket");
    check_json(r#"{"a": "\ud83d"}"#, "1,7 this text holds a bad escape");
}

proptest! {
    #[test]
    fn any_text_ends_in_a_tree_or_errors(text in "[a-z0-9{}\\[\\]=,:\"\\\\$<>#/*\\n .-]{0,200}") {
        let _ignored = render(&text, Notation::Hcl1);
        let _ignored = render(&text, Notation::Json);
    }

    #[test]
    fn any_unicode_ends_in_a_tree_or_errors(text in "\\PC{0,100}") {
        let _ignored = render(&text, Notation::Hcl1);
        let _ignored = render(&text, Notation::Json);
    }
}
