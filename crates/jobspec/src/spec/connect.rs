//! Tables of Consul's service mesh, which is kept in a service's extras.

use super::Kind::{Bool, Duration, Free, Int, Labelled, Many, One, Text, TextMap, Texts};
use super::tables::{LOGS, RESOURCES};
use super::{Schema, field, schema};

pub(super) static CONSUL: Schema = schema(
    "consul block",
    &[
        field("namespace", "Namespace", Text),
        field("cluster", "Cluster", Text),
        field("partition", "Partition", Text),
    ],
);

pub(super) static CONNECT: Schema = schema(
    "connect block",
    &[
        field("native", "Native", Bool),
        field("gateway", "Gateway", One(&GATEWAY)),
        field("sidecar_service", "SidecarService", One(&SIDECAR_SERVICE)),
        field("sidecar_task", "SidecarTask", One(&SIDECAR_TASK)),
    ],
);

static SIDECAR_SERVICE: Schema = schema(
    "sidecar_service block",
    &[
        field("tags", "Tags", Texts),
        field("port", "Port", Text),
        field("proxy", "Proxy", One(&PROXY)),
        field("disable_default_tcp_check", "DisableDefaultTCPCheck", Bool),
        field("meta", "Meta", TextMap),
    ],
);

static SIDECAR_TASK: Schema = schema(
    "sidecar_task block",
    &[
        field("name", "Name", Text),
        field("driver", "Driver", Text),
        field("user", "User", Text),
        field("config", "Config", Free),
        field("env", "Env", TextMap),
        field("resources", "Resources", One(&RESOURCES)),
        field("meta", "Meta", TextMap),
        field("kill_timeout", "KillTimeout", Duration),
        field("logs", "LogConfig", One(&LOGS)),
        field("shutdown_delay", "ShutdownDelay", Duration),
        field("kill_signal", "KillSignal", Text),
    ],
);

static PROXY: Schema = schema(
    "proxy block",
    &[
        field("local_service_address", "LocalServiceAddress", Text),
        field("local_service_port", "LocalServicePort", Int),
        field("expose", "Expose", One(&EXPOSE)),
        field("upstreams", "Upstreams", Many(&UPSTREAM)),
        field("transparent_proxy", "TransparentProxy", One(&TRANSPARENT_PROXY)),
        field("config", "Config", Free),
    ],
);

static EXPOSE: Schema = schema("expose block", &[field("path", "Paths", Many(&EXPOSE_PATH))]);

static EXPOSE_PATH: Schema = schema(
    "path block",
    &[
        field("path", "Path", Text),
        field("protocol", "Protocol", Text),
        field("local_path_port", "LocalPathPort", Int),
        field("listener_port", "ListenerPort", Text),
    ],
);

static UPSTREAM: Schema = schema(
    "upstreams block",
    &[
        field("destination_name", "DestinationName", Text),
        field("destination_namespace", "DestinationNamespace", Text),
        field("destination_peer", "DestinationPeer", Text),
        field("destination_partition", "DestinationPartition", Text),
        field("destination_type", "DestinationType", Text),
        field("local_bind_port", "LocalBindPort", Int),
        field("datacenter", "Datacenter", Text),
        field("local_bind_address", "LocalBindAddress", Text),
        field("local_bind_socket_path", "LocalBindSocketPath", Text),
        field("local_bind_socket_mode", "LocalBindSocketMode", Text),
        field("mesh_gateway", "MeshGateway", One(&MESH_GATEWAY)),
        field("config", "Config", Free),
    ],
);

static MESH_GATEWAY: Schema = schema("mesh_gateway block", &[field("mode", "Mode", Text)]);

static TRANSPARENT_PROXY: Schema = schema(
    "transparent_proxy block",
    &[
        field("uid", "UID", Text),
        field("outbound_port", "OutboundPort", Int),
        field("exclude_inbound_ports", "ExcludeInboundPorts", Texts),
        field("exclude_outbound_ports", "ExcludeOutboundPorts", Texts),
        field("exclude_outbound_cidrs", "ExcludeOutboundCIDRs", Texts),
        field("exclude_uids", "ExcludeUIDs", Texts),
        field("no_dns", "NoDNS", Bool),
    ],
);

static GATEWAY: Schema = schema(
    "gateway block",
    &[
        field("proxy", "Proxy", One(&GATEWAY_PROXY)),
        field("ingress", "Ingress", One(&INGRESS)),
        field("terminating", "Terminating", One(&TERMINATING)),
        field("mesh", "Mesh", One(&MESH)),
    ],
);

static MESH: Schema = schema("mesh block", &[]);

static GATEWAY_PROXY: Schema = schema(
    "proxy block",
    &[
        field("connect_timeout", "ConnectTimeout", Duration),
        field("envoy_gateway_bind_tagged_addresses", "EnvoyGatewayBindTaggedAddresses", Bool),
        field(
            "envoy_gateway_bind_addresses",
            "EnvoyGatewayBindAddresses",
            Labelled(&BIND_ADDRESS, "Name"),
        ),
        field("envoy_gateway_no_default_bind", "EnvoyGatewayNoDefaultBind", Bool),
        field("envoy_dns_discovery_type", "EnvoyDNSDiscoveryType", Text),
        field("config", "Config", Free),
    ],
);

static BIND_ADDRESS: Schema = schema(
    "envoy_gateway_bind_addresses block",
    &[field("address", "Address", Text), field("port", "Port", Int)],
);

static INGRESS: Schema = schema(
    "ingress block",
    &[field("tls", "TLS", One(&TLS)), field("listener", "Listeners", Many(&LISTENER))],
);

static TLS: Schema = schema(
    "tls block",
    &[
        field("enabled", "Enabled", Bool),
        field("tls_min_version", "TLSMinVersion", Text),
        field("tls_max_version", "TLSMaxVersion", Text),
        field("cipher_suites", "CipherSuites", Texts),
        field("sds", "SDS", One(&SDS)),
    ],
);

static SDS: Schema = schema(
    "sds block",
    &[field("cluster_name", "ClusterName", Text), field("cert_resource", "CertResource", Text)],
);

static LISTENER: Schema = schema(
    "listener block",
    &[
        field("port", "Port", Int),
        field("protocol", "Protocol", Text),
        field("service", "Services", Many(&INGRESS_SERVICE)),
    ],
);

static INGRESS_SERVICE: Schema = schema(
    "service block",
    &[
        field("name", "Name", Text),
        field("hosts", "Hosts", Texts),
        field("tls", "TLS", One(&TLS)),
        field("request_headers", "RequestHeaders", One(&HEADERS)),
        field("response_headers", "ResponseHeaders", One(&HEADERS)),
        field("max_connections", "MaxConnections", Int),
        field("max_pending_requests", "MaxPendingRequests", Int),
        field("max_concurrent_requests", "MaxConcurrentRequests", Int),
    ],
);

static HEADERS: Schema = schema(
    "headers block",
    &[field("add", "Add", TextMap), field("set", "Set", TextMap), field("remove", "Remove", Texts)],
);

static TERMINATING: Schema =
    schema("terminating block", &[field("service", "Services", Many(&LINKED_SERVICE))]);

static LINKED_SERVICE: Schema = schema(
    "service block",
    &[
        field("name", "Name", Text),
        field("ca_file", "CAFile", Text),
        field("cert_file", "CertFile", Text),
        field("key_file", "KeyFile", Text),
        field("sni", "SNI", Text),
    ],
);
