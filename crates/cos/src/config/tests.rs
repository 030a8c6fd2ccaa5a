//! Configurations as text, and what becomes of them.

use super::*;

#[track_caller]
fn read(texts: &[&str]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for (number, text) in (1..).zip(texts) {
        settings.read_text(text, &format!("{number}.hcl")).map_err(|error| error.to_string())?;
    }
    Ok(settings)
}

#[test]
fn later_files_override_earlier_ones_key_by_key() {
    let settings = read(&[
        r#"
        name = "a"
        datacenter = "dc1"
        ports { http = 5646 rpc = 5647 }
        server { enabled = true bootstrap_expect = 3 }
        client { meta { x = "1" y = "2" } }
        plugin "docker" { config { allow_privileged = true gc { image = false } } }
        "#,
        r#"{"datacenter": "dc2", "ports": {"http": 6646, "dns": -1}, "client": {"meta": {"y": "3"}}}"#,
    ])
    .unwrap();
    assert_eq!(settings.name.as_deref(), Some("a"));
    assert_eq!(settings.datacenter(), "dc2");
    assert_eq!(settings.ports["http"], 6646);
    assert_eq!(settings.ports["rpc"], 5647);
    assert_eq!(settings.ports["dns"], -1);
    assert_eq!(settings.server.bootstrap_expect, Some(3));
    assert_eq!(settings.client.meta["x"], "1");
    assert_eq!(settings.client.meta["y"], "3");
    assert!(settings.plugins["docker"].contains_key("allow_privileged"));
    let endpoints = settings.endpoints(None).unwrap();
    assert_eq!(endpoints.http.bind.to_string(), "127.0.0.1:6646");
    assert!(endpoints.dns.is_none());
    assert_eq!(endpoints.ingress.unwrap().bind.port(), 9999);
}

#[track_caller]
fn check_error(text: &str, parts: &[&str]) {
    let error = read(&[text]).expect_err(text);
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn mistakes_name_their_place() {
    check_error("name = \"a\"\nnmae = \"b\"\n", &["1.hcl:2,1", "unknown key `nmae`"]);
    check_error("server {\n  enabeld = true\n}\n", &["1.hcl:2,3", "enabeld"]);
    check_error("ports {\n  http = 70000\n}\n", &["1.hcl:2,10", "-1 to 65535"]);
    check_error("client {\n  host_volume \"v\" {}\n}\n", &["1.hcl:2", "has no path"]);
    check_error("log_level = \"loud\"\n", &["1.hcl:1,13", "loud"]);
    check_error("{\"ports\": {\"http\": }}", &["1.hcl:1,20"]);
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused() {
    check_error("acl {\n  enabled = true\n}\n", &["1.hcl:1,1", "not supported yet"]);
    check_error("tls {\n  tls_min_version = \"tls10\"\n}\n", &["1.hcl:2,21", "tls12 or tls13"]);
    check_error("cluster {\n  certificate_ttl = \"1s\"\n}\n", &["1.hcl:2,21", "10s or longer"]);
    check_error("server {\n  encrypt = \"abc\"\n}\n", &["1.hcl:2,13", "no gossip key"]);
}

#[test]
fn what_has_no_effect_is_told() {
    let settings = read(&["ui { enabled = true }\nconsul { address = \"127.0.0.1:8500\" }\n\
         telemetry { prometheus_metrics = true }\nacl { enabled = false }\n"])
    .unwrap();
    assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
}

#[test]
fn flags_take_both_forms_and_override() {
    let arguments: Vec<String> =
        ["-dev", "--dc=testing", "-node", "n", "-meta=a=b"].map(str::to_owned).to_vec();
    let flags = Flags::parse(&arguments).unwrap();
    let settings = Settings::load(&flags).unwrap();
    assert!(settings.is_server() && settings.is_client());
    assert_eq!(settings.datacenter(), "testing");
    assert_eq!(settings.client.meta["a"], "b");
    let unknown = Flags::parse(&["-odd".to_owned()]).unwrap_err().to_string();
    assert!(unknown.contains("not defined: -odd"), "{unknown}");
    let role = Settings::load(&Flags::default()).unwrap_err().to_string();
    assert!(role.contains("server, client or dev mode"), "{role}");
}

#[test]
fn a_listener_on_all_addresses_needs_one_to_advertise() {
    let settings = read(&["bind_addr = \"0.0.0.0\"\nadvertise { http = \"10.0.0.5\" }"]).unwrap();
    assert!(settings.endpoints(None).is_err());
    let endpoints = settings.endpoints(Some("10.0.0.9".parse().unwrap())).unwrap();
    assert_eq!(endpoints.http.advertise.to_string(), "10.0.0.5:4646");
    assert_eq!(endpoints.rpc.advertise.to_string(), "10.0.0.9:4647");
}

#[test]
fn heartbeats_and_limits_are_read_and_bounded() {
    let settings =
        read(&["server {\n  max_heartbeats_per_second = 50.5\n  heartbeat_grace = \"10s\"\n  \
         closed_heartbeat_grace = \"2s\"\n}\n\
         limits {\n  http_max_conns_per_client = 7\n  http_max_blocking = 9\n  rpc_rate = 1\n}\n"])
        .unwrap();
    assert_eq!(settings.server.max_heartbeats_per_second, Some(50.5));
    assert_eq!(settings.server.closed_heartbeat_grace, Some(Duration::from_secs(2)));
    assert_eq!(settings.limits.http_max_conns_per_client, Some(7));
    assert_eq!(settings.limits.http_max_blocking, Some(9));
    assert_eq!(settings.warnings, ["`limits { rpc_rate }` has no effect"]);
    check_error("server {\n  max_heartbeats_per_second = 0\n}\n", &["1.hcl:2", "0.01 to 100000"]);
    check_error("limits {\n  http_max_conns = -1\n}\n", &["1.hcl:2"]);
    check_error("limits {\n  http_max_connections = 1\n}\n", &["1.hcl:2,3"]);
}
