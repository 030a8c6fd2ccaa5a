//! Tests of the functions: calls as job files write them, answers as JSON.

use proptest::prelude::*;

use super::*;
use crate::hcl;
use crate::json::value_to_json;

fn evaluate(call: &str) -> String {
    match hcl::parse(&format!("x = {call}\n"), "f") {
        Ok(body) => body
            .get("x")
            .map_or(String::new(), |entry| value_to_json(&entry.node.to_value()).to_string()),
        Err(problems) => problems.first().map_or(String::new(), |problem| problem.summary.clone()),
    }
}

#[track_caller]
fn check(call: &str, expected: &str) {
    assert_eq!(evaluate(call), expected, "{call}");
}

#[test]
fn text_is_cut_joined_and_replaced() {
    check(r#"upper("ab")"#, r#""AB""#);
    check(r#"title("hello wide world")"#, r#""Hello Wide World""#);
    check(r#"trimspace("  a ")"#, r#""a""#);
    check(r#"trim("?!a?!", "!?")"#, r#""a""#);
    check(r#"trimprefix("v1.2", "v")"#, r#""1.2""#);
    check(r#"trimsuffix("a.com", ".com")"#, r#""a""#);
    check(r#"chomp("a\n\n")"#, r#""a""#);
    check(r#"substr("hello", 1, 3)"#, r#""ell""#);
    check(r#"substr("hello", -3, -1)"#, r#""llo""#);
    check(r#"strlen("héllo")"#, "5");
    check(r#"strrev("abc")"#, r#""cba""#);
    check(r#"join("-", ["a", "b"], ["c"])"#, r#""a-b-c""#);
    check(r#"split(",", "a,b")"#, r#"["a","b"]"#);
    check(r#"replace("a.b", ".", "-")"#, r#""a-b""#);
    check(r#"replace("a1b22", "/[0-9]+/", "_")"#, r#""a_b_""#);
    check(r#"regex_replace("john smith", "(\\w+) (\\w+)", "$2 $1")"#, r#""smith john""#);
    check(r#"indent(2, "a\nb")"#, r#""a\n  b""#);
    check(r#"indent(1e18, "a")"#, "`indent`: the indentation is too large");
}

#[test]
fn format_has_the_verbs_of_printf() {
    check(r#"format("%s-%03d-%.2f", "a", 7, 1.5)"#, r#""a-007-1.50""#);
    check(r#"format("%5s|%-5s|%t|%%", "a", "b", true)"#, r#""    a|b    |true|%""#);
    check(r#"format("%x %X %o %b %q", 255, 255, 8, 5, "x")"#, r#""ff FF 10 101 \"x\"""#);
    check(r#"format("%v %#v", [1], "a")"#, r#""[1] \"a\"""#);
    check(r#"format("%[2]s %[1]s", "a", "b")"#, r#""b a""#);
    check(r#"format("%e", 1234.5)"#, r#""1.234500e+03""#);
    check(r#"formatlist("%s:%d", ["a", "b"], 80)"#, r#"["a:80","b:80"]"#);
    check(r#"format("%d", "x")"#, "`format`: `%d` needs a number, not a string");
    check(r#"format("%s")"#, "`format`: there is no value for `%s`");
    check(r#"format("%99999999999d", 1)"#, "`format`: a width of 99999999999 is too large");
}

#[test]
fn numbers_are_rounded_and_compared() {
    check("max(1, 5, 3)", "5");
    check("min(1.5, 5)", "1.5");
    check("abs(-3)", "3");
    check("ceil(1.2)", "2");
    check("floor(-1.2)", "-2");
    check("pow(2, 10)", "1024");
    check("log(8, 2)", "3");
    check("signum(-4)", "-1");
    check(r#"parseint("ff", 16)"#, "255");
}

#[test]
fn lists_and_maps_are_searched_and_built() {
    check("length([1, 2])", "2");
    check(r#"concat(["a"], ["b"])"#, r#"["a","b"]"#);
    check(r#"contains(["a"], "a")"#, "true");
    check("element([1, 2, 3], 4)", "2");
    check("flatten([[1], [2, [3]]])", "[1,2,3]");
    check("keys({b = 1, a = 2})", r#"["a","b"]"#);
    check("values({b = 1, a = 2})", "[2,1]");
    check(r#"lookup({a = 1}, "b", 9)"#, "9");
    check("merge({a = 1}, {a = 2, b = 3})", r#"{"a":2,"b":3}"#);
    check("range(3)", "[0,1,2]");
    check("range(1, 10, 4)", "[1,5,9]");
    check("range(3, 0)", "[3,2,1]");
    check("slice([1, 2, 3], 1, 3)", "[2,3]");
    check(r#"sort(["b", "a"])"#, r#"["a","b"]"#);
    check(r#"zipmap(["a"], [1])"#, r#"{"a":1}"#);
    check("chunklist([1, 2, 3], 2)", "[[1,2],[3]]");
    check(r#"coalesce(null, "a")"#, r#""a""#);
    check("coalescelist([], [1])", "[1]");
    check(r#"compact(["a", "", "b"])"#, r#"["a","b"]"#);
    check("distinct([1, 2, 1])", "[1,2]");
    check(r#"index(["a", "b"], "b")"#, "1");
    check(r#"setunion(["b"], ["a", "b"])"#, r#"["a","b"]"#);
    check("setintersection([1, 2], [2, 3])", "[2]");
    check(r#"setproduct(["a"], [1, 2])"#, r#"[["a",1],["a",2]]"#);
    check(r#"convert("5", number)"#, "5");
}

#[test]
fn data_is_encoded_and_digested() {
    check(r#"base64encode("hi")"#, r#""aGk=""#);
    check(r#"base64decode("aGk=")"#, r#""hi""#);
    check(
        r#"jsonencode({b = [1, true, null], a = "<"})"#,
        r#""{\"a\":\"\\u003c\",\"b\":[1,true,null]}""#,
    );
    check(r#"jsondecode("{\"a\": [1.5]}")"#, r#"{"a":[1.5]}"#);
    check(r#"urlencode("a b/ä")"#, r#""a+b%2F%C3%A4""#);
    check(r#"csvdecode("a,b\n1,\"x,\"\"y\"\n")"#, r#"[{"a":"1","b":"x,\"y"}]"#);
    check(r#"md5("a")"#, r#""0cc175b9c0f1b6a831c399e269772661""#);
    check(r#"sha1("a")"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#);
    check(r#"substr(sha256("a"), 0, 8)"#, r#""ca978112""#);
    check(r#"substr(sha512("a"), 0, 8)"#, r#""1f40fc92""#);
    check(r#"uuidv5("dns", "www.terraform.io")"#, r#""a5008fae-b28c-5ba5-96cd-82b4c53552d6""#);
}

#[test]
fn times_are_shifted_and_formatted() {
    check(r#"timeadd("2020-01-02T03:04:05Z", "1h5m")"#, r#""2020-01-02T04:09:05Z""#);
    check(
        r#"formatdate("DD MMM YYYY hh:mm ZZZ 'at' HHAA", "2018-01-02T23:12:01Z")"#,
        r#""02 Jan 2018 23:12 UTC at 11PM""#,
    );
}

#[test]
fn networks_are_divided() {
    check(r#"cidrhost("10.12.112.0/20", 16)"#, r#""10.12.112.16""#);
    check(r#"cidrhost("10.12.112.0/20", -1)"#, r#""10.12.127.255""#);
    check(r#"cidrnetmask("172.16.0.0/12")"#, r#""255.240.0.0""#);
    check(r#"cidrsubnet("172.16.0.0/12", 4, 2)"#, r#""172.18.0.0/16""#);
    check(
        r#"cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162)"#,
        r#""fd00:fd12:3456:7800:a200::/72""#,
    );
    check(
        r#"cidrsubnets("10.1.0.0/16", 4, 4, 8, 4)"#,
        r#"["10.1.0.0/20","10.1.16.0/20","10.1.32.0/24","10.1.48.0/20"]"#,
    );
    check(r#"cidrhost("10.0.0.0/30", 4)"#, "`cidrhost`: 10.0.0.0/30 has no host 4");
}

#[test]
fn files_are_refused_without_permission() {
    check(r#"file("/etc/hostname")"#, "`file`: functions that look at files are disabled here");
}

#[test]
fn files_are_read_where_permitted() {
    let host = Host { files: Some(Path::new("/usr")) };
    let call = |name: &str, arguments: &[&str]| {
        let arguments: Vec<Value> =
            arguments.iter().map(|text| Value::String((*text).to_owned())).collect();
        (find(name).expect("the function exists").run)(&arguments, &host)
    };
    let text = |text: &str| Ok(Value::String(text.to_owned()));
    assert_eq!(call("abspath", &["a/../b"]), text("/usr/b"));
    assert_eq!(call("basename", &["a/b.txt"]), text("b.txt"));
    assert_eq!(call("dirname", &["a/b.txt"]), text("a"));
    assert_eq!(call("fileexists", &["no such file"]), Ok(Value::Bool(false)));
    assert!(call("file", &["no such file"]).is_err());
}

#[test]
fn unknown_and_missing_functions_are_told_apart() {
    check("nope(1)", "there is no function `nope`");
    check("uuidv4()", "the function `uuidv4` is not supported yet");
    check("upper()", "`upper` got 0 arguments");
    check("try(nope(), 1)", "1");
    check("can(nope())", "false");
}

#[test]
fn the_table_covers_all_names_of_nomad() {
    assert_eq!(names().len() + UNSUPPORTED.len(), 83);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-10_i64..10).prop_map(Value::Int),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::Float),
        "[a-z0-9%.:/*'\\[-]{0,12}".prop_map(Value::String),
        Just(Value::String("10.0.0.0/8".to_owned())),
        Just(Value::String("2020-01-02T03:04:05Z".to_owned())),
    ];
    leaf.prop_recursive(2, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn no_arguments_make_a_function_panic(arguments in prop::collection::vec(any_value(), 0..4)) {
        let host = Host { files: None };
        for function in TABLES.iter().flat_map(|table| table.iter()) {
            if function.arity_problem(arguments.len()).is_none() {
                let _any_answer = (function.run)(&arguments, &host);
            }
        }
    }
}
