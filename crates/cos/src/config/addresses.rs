//! Where each listener binds and how it is reached, from `bind_addr`, `addresses`, `advertise` and
//! `ports`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{ConfigError, Settings};

/// One listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Where it binds.
    pub(crate) bind: SocketAddr,
    /// Where others reach it.
    pub(crate) advertise: SocketAddr,
}

/// All listeners of an agent; an absent one is switched off.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) http: Endpoint,
    pub(crate) rpc: Endpoint,
    pub(crate) serf: Endpoint,
    pub(crate) consul_http: Option<Endpoint>,
    pub(crate) dns: Option<Endpoint>,
    pub(crate) ingress: Option<Endpoint>,
    pub(crate) ingress_ui: Option<Endpoint>,
}

/// Default ports.
const PORTS: [(&str, u16); 7] = [
    ("http", 4646),
    ("rpc", 4647),
    ("serf", 4648),
    ("consul_http", 8500),
    ("dns", 8600),
    ("ingress", 9999),
    ("ingress_ui", 9998),
];

/// Works out all listeners. `machine` is the address to advertise when a listener binds to all.
pub(super) fn endpoints(
    settings: &Settings,
    machine: Option<IpAddr>,
) -> Result<Endpoints, ConfigError> {
    for block in [&settings.addresses, &settings.advertise] {
        for name in block.keys() {
            if PORTS.iter().all(|(known, _)| known != name) {
                let known: Vec<&str> = PORTS.iter().map(|(known, _)| *known).collect();
                return Err(ConfigError::Invalid(format!(
                    "unknown listener `{name}` in addresses or advertise; expected one of {}",
                    known.join(", ")
                )));
            }
        }
    }
    let find = |name| endpoint(settings, name, machine);
    let needed = |name| {
        find(name)?.ok_or_else(|| {
            ConfigError::Invalid(format!("ports {{ {name} = -1 }}: this listener is needed"))
        })
    };
    Ok(Endpoints {
        http: needed("http")?,
        rpc: needed("rpc")?,
        serf: needed("serf")?,
        consul_http: find("consul_http")?,
        dns: find("dns")?,
        ingress: find("ingress")?,
        ingress_ui: find("ingress_ui")?,
    })
}

fn endpoint(
    settings: &Settings,
    name: &str,
    machine: Option<IpAddr>,
) -> Result<Option<Endpoint>, ConfigError> {
    let default = PORTS.iter().find(|(known, _)| *known == name).map_or(0, |(_, port)| *port);
    let port = settings.ports.get(name).copied().unwrap_or_else(|| i32::from(default));
    let Ok(port) = u16::try_from(port) else { return Ok(None) };
    let address = match settings.addresses.get(name).or(settings.bind_addr.as_ref()) {
        Some(text) => parse_ip(text, name)?,
        // Until the cluster authenticates its members, only what is asked for leaves loopback.
        None => Ipv4Addr::LOCALHOST.into(),
    };
    let bind = SocketAddr::new(address, port);
    let advertise = match settings.advertise.get(name) {
        Some(text) => parse_place(text, port, name)?,
        None if address.is_unspecified() => {
            let ip = machine.ok_or_else(|| {
                ConfigError::Invalid(format!(
                    "{name} binds to all addresses and this machine has none besides loopback; \
                     set advertise {{ {name} = \"ADDRESS\" }}"
                ))
            })?;
            SocketAddr::new(ip, port)
        }
        None => bind,
    };
    Ok(Some(Endpoint { bind, advertise }))
}

fn parse_ip(text: &str, name: &str) -> Result<IpAddr, ConfigError> {
    text.trim()
        .trim_matches(['[', ']'])
        .parse()
        .ok()
        .ok_or_else(|| ConfigError::Invalid(format!("`{text}` for {name} is no IP address")))
}

/// An address with or without a port.
fn parse_place(text: &str, port: u16, name: &str) -> Result<SocketAddr, ConfigError> {
    if let Ok(place) = text.trim().parse::<SocketAddr>() {
        return Ok(place);
    }
    Ok(SocketAddr::new(parse_ip(text, name)?, port))
}
