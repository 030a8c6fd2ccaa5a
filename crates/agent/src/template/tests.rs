//! Templates and what they give, as consul-template would.

use std::collections::BTreeMap as Map;

use cos_model::catalog::{CatalogChange, CatalogCheck, CatalogNode, Health, ServiceInstance};
use proptest::prelude::*;

use super::*;

fn entry(key: &str, value: &str) -> KvEntry {
    KvEntry {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        flags: 0,
        lock_index: 0,
        session: None,
        create_index: 1,
        modify_index: 1,
    }
}

fn catalog() -> Catalog {
    let node: Arc<str> = Arc::from("n1");
    let mut catalog = Catalog::default();
    let put_node = CatalogNode {
        name: Arc::clone(&node),
        id: "id".to_owned(),
        address: "10.0.0.1".to_owned(),
        tagged_addresses: Map::new(),
        meta: Map::new(),
        create_index: 0,
        modify_index: 0,
    };
    catalog.apply(1, &CatalogChange::PutNode(put_node)).unwrap();
    for (id, port, status) in [("w1", 8001, Health::Passing), ("w2", 8002, Health::Critical)] {
        let service = ServiceInstance {
            node: Arc::clone(&node),
            id: Arc::from(id),
            name: Arc::from("web"),
            tags: vec!["blue".to_owned()],
            address: String::new(),
            port,
            meta: Map::new(),
            tagged_addresses: Map::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        };
        catalog.apply(2, &CatalogChange::PutService(service)).unwrap();
        let check = CatalogCheck {
            node: Arc::clone(&node),
            id: Arc::from(format!("c-{id}")),
            name: String::new(),
            status,
            notes: String::new(),
            output: String::new(),
            service_id: Arc::from(id),
            service_name: Arc::from("web"),
            definition: None,
            create_index: 0,
            modify_index: 0,
        };
        catalog.apply(3, &CatalogChange::PutCheck(check)).unwrap();
    }
    catalog
}

fn facts() -> Facts {
    let keys = Map::from([
        (Need::Key("app/name".to_owned()), Arc::from(vec![entry("app/name", "ping")])),
        (Need::Key("absent".to_owned()), Arc::from(Vec::new())),
        (
            Need::Tree("app/".to_owned()),
            Arc::from(vec![entry("app/a", "1"), entry("app/b", "2"), entry("app/sub/c", "3")]),
        ),
    ]);
    Facts {
        env: Map::from([("NOMAD_DC".to_owned(), "dc1".to_owned())]),
        keys,
        files: Map::from([("local/x".to_owned(), Some("content".to_owned()))]),
        catalog: Arc::new(catalog()),
        datacenter: "dc1".to_owned(),
        now: Timestamp(1_700_000_000_000_000_000),
    }
}

fn source(text: &str) -> Source {
    Source { name: "t".to_owned(), text: text.to_owned(), ..Source::default() }
}

fn check(text: &str, expected: &str) {
    let rendered = render(&source(text), &facts()).unwrap();
    assert_eq!(rendered.text.as_deref(), Some(expected), "{text}");
}

#[test]
fn values_are_read() {
    let rows = [
        ("plain ${SUBPATH} text", "plain ${SUBPATH} text"),
        (r#"{{ env "NOMAD_DC" }}"#, "dc1"),
        (r#"{{ env "NOTHING" }}"#, ""),
        (r#"{{ envOrDefault "NOTHING" "x" }}"#, "x"),
        (r#"{{ key "app/name" }}"#, "ping"),
        (r#"{{ key "/app/name@dc1" }}"#, "ping"),
        (r#"{{ keyOrDefault "absent" "none" }}"#, "none"),
        (r#"{{ if keyExists "absent" }}yes{{ else }}no{{ end }}"#, "no"),
        (r#"{{ range ls "app" }}{{ .Key }}={{ .Value }};{{ end }}"#, "a=1;b=2;"),
        (r#"{{ range tree "app" }}{{ .Key }} {{ end }}"#, "a b sub/c "),
        (r#"{{ file "local/x" }}"#, "content"),
        (r#"{{ range service "web" }}{{ .Address }}:{{ .Port }} {{ end }}"#, "10.0.0.1:8001 "),
        (r#"{{ range service "blue.web|any" }}{{ .ID }} {{ end }}"#, "w1 w2 "),
        (r#"{{ range nomadService "web" }}{{ .Port }}{{ end }}"#, "8001"),
        (r#"{{ range service "web@dc2" }}x{{ end }}"#, ""),
        (r#"{{ range service "web" "critical" }}{{ .ID }}{{ end }}"#, "w2"),
        ("{{ range services }}{{ .Name }}:{{ .Tags }}{{ end }}", "web:[blue]"),
        ("{{ timestamp }}", "2023-11-14T22:13:20Z"),
        (r#"{{ timestamp "unix" }}"#, "1700000000"),
    ];
    for (text, expected) in rows {
        check(text, expected);
    }
}

#[test]
fn values_are_computed() {
    let rows = [
        (r#"{{ "abc" | toUpper }}{{ toLower "XY" }}{{ toTitle "one two" }}"#, "ABCxyOne Two"),
        (r#"{{ range split "," "a,b" }}<{{ . }}>{{ end }}"#, "<a><b>"),
        (r#"{{ "a,b" | split "," | join "+" }}"#, "a+b"),
        (r#"{{ if "a,b" | split "," | contains "b" }}yes{{ end }}"#, "yes"),
        (r#"{{ "17" | parseInt | add 3 }}"#, "20"),
        (r"{{ 5 | subtract 2 }} {{ 7 | divide 2 }} {{ 7 | modulo 4 }}", "3 3 3"),
        (r#"{{ "x" | base64Encode }} {{ "eA==" | base64Decode }}"#, "eA== x"),
        (r#"{{ with $d := "{\"a\":{\"b\":[1,2]}}" | parseJSON }}{{ $d.a.b }}{{ end }}"#, "[1 2]"),
        (r#"{{ ls "app" | explode | toJSON }}"#, r#"{"a":"1","b":"2"}"#),
        (r#"{{ "a b" | replaceAll " " "-" }}"#, "a-b"),
        (r#"{{ if "abc123" | regexMatch "[0-9]+" }}digits{{ end }}"#, "digits"),
        (r#"{{ "a1b2" | regexReplaceAll "[0-9]" "-" }}"#, "a-b-"),
        (r"{{ range loop 3 }}{{ . }}{{ end }}", "012"),
        (r#"{{ "a" | sprig_default "z" }}{{ "" | sprig_default "z" }}"#, "az"),
        (r#"{{ "  x " | trimSpace }}{{ "vx" | trimPrefix "v" }}"#, "xx"),
        (r#"{{ indent 2 "a" }}"#, "  a"),
    ];
    for (text, expected) in rows {
        check(text, expected);
    }
}

#[test]
fn other_delimiters_leave_the_usual_ones_alone() {
    let source = Source { left: "<<".to_owned(), right: ">>".to_owned(), ..source("") };
    let source = Source { text: r#"{{ host }} << env "NOMAD_DC" >>"#.to_owned(), ..source };
    assert_eq!(render(&source, &facts()).unwrap().text.as_deref(), Some("{{ host }} dc1"));
}

#[test]
fn what_is_missing_is_named_and_nothing_is_given() {
    let rendered = render(&source(r#"a {{ key "absent" }}"#), &facts()).unwrap();
    assert_eq!(rendered.text, None);
    assert_eq!(rendered.waits_for.into_iter().collect::<Vec<_>>(), ["kv.block(absent)"]);
    let rendered = render(&source(r#"{{ keyOrDefault "new" "x" }}"#), &facts()).unwrap();
    assert_eq!(rendered.text, None);
    assert!(rendered.needs.contains(&Need::Key("new".to_owned())));
}

#[test]
fn wrong_templates_say_what_is_wrong() {
    let rows = [
        (r#"{{ nomadVar "x" }}"#, "template t: function \"nomadVar\" is not supported"),
        (r#"{{ secret "x" }}"#, "template t: function \"secret\" is not supported"),
    ];
    for (text, expected) in rows {
        assert_eq!(render(&source(text), &facts()).unwrap_err().to_string(), expected);
    }
    assert!(render(&source("{{ if }}"), &facts()).is_err());
    assert!(render(&source("{{ env }}"), &facts()).is_err());
    let strict = Source { strict: true, ..source("{{ .nothing }}") };
    assert!(render(&strict, &facts()).is_err());
    check("{{ .nothing }}", "<no value>");
}

#[test]
fn environment_lines_are_read() {
    let text = "# comment\nA=1\n\nexport B = \"two words\"\nC='x=y'\n";
    let expected = Map::from([
        ("A".to_owned(), "1".to_owned()),
        ("B".to_owned(), "two words".to_owned()),
        ("C".to_owned(), "x=y".to_owned()),
    ]);
    assert_eq!(parse_env(text), Ok(expected));
    assert_eq!(parse_env("A=1\nnonsense"), Err("line 2: expected KEY=value".to_owned()));
}

proptest! {
    #[test]
    fn no_text_breaks_the_engine(text in "[{}a-z\"| .$0-9]{0,60}") {
        drop(render(&source(&text), &facts()));
    }
}
