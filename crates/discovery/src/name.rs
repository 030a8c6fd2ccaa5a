//! What a name in the domain asks for.
//!
//! Names are compared in lower case. The datacenter may follow the kind (`web.service.dc1`), also
//! in the explicit form (`web.service.dc1.dc`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The domain itself.
    Apex,
    /// Instances of a service, perhaps only those with a tag.
    Service {
        /// The service.
        name: String,
        /// The tag.
        tag: Option<String>,
    },
    /// A node.
    Node(String),
    /// An address written as a name.
    Address(IpAddr),
    /// A name inside the domain that cannot exist, such as one of another datacenter.
    Nothing,
    /// A name of another domain.
    Outside,
}

/// Reads a name given as labels in lower case. `rfc2782` allows `_name._tag` without a kind.
pub(crate) fn look_up(labels: &[String], domain: &[String], datacenter: &str) -> Lookup {
    let Some(rest) = strip_suffix(labels, domain) else { return Lookup::Outside };
    if rest.is_empty() {
        return Lookup::Apex;
    }
    let Some((name, kind, stated)) = split_kind(rest) else { return Lookup::Nothing };
    if stated.is_some_and(|stated| !stated.eq_ignore_ascii_case(datacenter)) || name.is_empty() {
        return Lookup::Nothing;
    }
    match kind {
        "service" => service(name),
        "node" => Lookup::Node(name.join(".")),
        "addr" => address(name),
        _ => Lookup::Nothing,
    }
}

fn strip_suffix<'a>(labels: &'a [String], domain: &[String]) -> Option<&'a [String]> {
    labels.len().checked_sub(domain.len()).and_then(|cut| {
        let (rest, end) = labels.split_at(cut);
        (end == domain).then_some(rest)
    })
}

/// The kinds of names.
const KINDS: [&str; 3] = ["service", "node", "addr"];

/// Splits labels into what is named, its kind and the datacenter if one is stated.
fn split_kind(labels: &[String]) -> Option<(&[String], &str, Option<&str>)> {
    let last = labels.len() - 1;
    let at = |index: usize| labels.get(index).map_or("", String::as_str);
    let explicit = at(last) == "dc" && last >= 2 && KINDS.contains(&at(last - 2));
    if explicit {
        return Some((&labels[..last - 2], at(last - 2), Some(at(last - 1))));
    }
    if KINDS.contains(&at(last)) {
        return Some((&labels[..last], at(last), None));
    }
    if last >= 1 && KINDS.contains(&at(last - 1)) {
        return Some((&labels[..last - 1], at(last - 1), Some(at(last))));
    }
    // `_name._tag` needs no kind; a datacenter may follow.
    let underscored = labels.iter().take_while(|label| label.starts_with('_')).count();
    match (underscored, labels.len()) {
        (2, 2) => Some((labels, "service", None)),
        (2, 3) => Some((&labels[..2], "service", Some(at(2)))),
        _ => None,
    }
}

fn service(name: &[String]) -> Lookup {
    if let [service, tag] = name
        && let (Some(service), Some(tag)) = (service.strip_prefix('_'), tag.strip_prefix('_'))
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Lookup::Service { name: service.to_owned(), tag };
    }
    let (service, tag) = name.split_last().expect("an empty name was refused before");
    let tag = (!tag.is_empty()).then(|| tag.join("."));
    Lookup::Service { name: service.clone(), tag }
}

fn address(name: &[String]) -> Lookup {
    let [hex] = name else { return Lookup::Nothing };
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Lookup::Nothing;
    }
    match hex.len() {
        8 => u32::from_str_radix(hex, 16)
            .map_or(Lookup::Nothing, |bits| Lookup::Address(Ipv4Addr::from(bits).into())),
        32 => u128::from_str_radix(hex, 16)
            .map_or(Lookup::Nothing, |bits| Lookup::Address(Ipv6Addr::from(bits).into())),
        _ => Lookup::Nothing,
    }
}

/// Writes an address as the label that [`look_up`] reads back.
pub(crate) fn address_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08x}", u32::from(address)),
        IpAddr::V6(address) => format!("{:032x}", u128::from(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        let labels: Vec<String> =
            name.split('.').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let actual = match look_up(&labels, &["consul".to_owned()], "dc1") {
            Lookup::Apex => "apex".to_owned(),
            Lookup::Service { name, tag } => format!("service {name} {}", tag.unwrap_or_default()),
            Lookup::Node(name) => format!("node {name}"),
            Lookup::Address(address) => format!("address {address}"),
            Lookup::Nothing => "nothing".to_owned(),
            Lookup::Outside => "outside".to_owned(),
        };
        assert_eq!(actual.trim_end(), expected, "{name}");
    }

    #[test]
    fn every_form_of_a_name_is_read() {
        check("consul", "apex");
        check("web.service.consul", "service web");
        check("web.service.dc1.consul", "service web");
        check("web.service.dc1.dc.consul", "service web");
        check("web.service.dc2.consul", "nothing");
        check("v1.web.service.consul", "service web v1");
        check("a.b.web.service.consul", "service web a.b");
        check("_web._tcp.service.consul", "service web");
        check("_web._tcp.consul", "service web");
        check("_web._v1.dc1.consul", "service web v1");
        check("n1.node.consul", "node n1");
        check("a.b.node.dc1.consul", "node a.b");
        check("7f000001.addr.consul", "address 127.0.0.1");
        check("00000000000000000000000000000001.addr.dc1.consul", "address ::1");
        check("7f00000z.addr.consul", "nothing");
        check("service.consul", "nothing");
        check("web.consul", "nothing");
        check("example.org", "outside");
        check("", "outside");
    }
}
