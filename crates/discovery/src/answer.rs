//! The answer to a question, from the catalog alone.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use cos_model::catalog::{Catalog, CatalogNode, Health, Instance};

use crate::name::{Lookup, address_label, look_up};

/// The names this server is responsible for.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The domain's labels in lower case, `consul` by default.
    pub domain: Vec<String>,
    /// The one datacenter that the catalog describes.
    pub datacenter: String,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name as asked, for the answer's records.
    pub name: Name,
    /// The wanted type.
    pub kind: RecordType,
}

/// What is answered, before it is fitted to the transport.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The outcome.
    pub code: ResponseCode,
    /// The records asked for.
    pub answers: Vec<Record>,
    /// Who is responsible, when there is nothing to answer.
    pub authorities: Vec<Record>,
    /// Addresses of what the answers name.
    pub additionals: Vec<Record>,
}

/// Priority of every SRV record; the weight makes the difference.
const SRV_PRIORITY: u16 = 1;
/// At most so many name servers are named.
const NAME_SERVERS_MAX: usize = 3;

/// Answers a question. `unix_seconds` becomes the zone's serial; `entropy` the records' order.
pub fn answer(
    catalog: &Catalog,
    zone: &Zone,
    question: &Question,
    unix_seconds: u32,
    entropy: u64,
) -> Answer {
    let labels: Vec<String> = question
        .name
        .iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect();
    let view = View { catalog, zone, question, unix_seconds, entropy };
    match look_up(&labels, &zone.domain, &zone.datacenter) {
        Lookup::Service { name, tag } => view.service(&name, tag.as_deref()),
        Lookup::Node(name) => view.node(&name),
        Lookup::Address(address) => view.address(address),
        Lookup::Apex => view.apex(),
        Lookup::Nothing => view.nothing(ResponseCode::NXDomain),
        Lookup::Outside => view.outside(),
    }
}

/// Everything that an answer is made from.
struct View<'a> {
    catalog: &'a Catalog,
    zone: &'a Zone,
    question: &'a Question,
    unix_seconds: u32,
    entropy: u64,
}

impl View<'_> {
    fn service(&self, name: &str, tag: Option<&str>) -> Answer {
        let mut instances: Vec<Instance> = self
            .catalog
            .instances(&self.registered_name(name))
            .into_iter()
            .filter(|instance| instance.health() != Health::Critical)
            .filter(|instance| {
                tag.is_none_or(|tag| {
                    instance.service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag))
                })
            })
            .collect();
        if instances.is_empty() {
            return self.nothing(ResponseCode::NXDomain);
        }
        shuffle(&mut instances, self.entropy);
        let mut answer = self.empty();
        for instance in &instances {
            if self.question.kind == RecordType::SRV {
                self.add_srv(&mut answer, instance);
            } else {
                self.add_addresses(&mut answer, instance.address());
            }
        }
        self.or_no_data(answer)
    }

    /// Finds the name as it was registered, since DNS knows no case.
    fn registered_name(&self, name: &str) -> Arc<str> {
        if self.catalog.service_index(name) > 0 {
            return Arc::from(name);
        }
        self.catalog
            .service_names()
            .into_iter()
            .find(|registered| registered.eq_ignore_ascii_case(name))
            .unwrap_or_else(|| Arc::from(name))
    }

    fn add_srv(&self, answer: &mut Answer, instance: &Instance) {
        let address = instance.address();
        let on_node = instance.service.address.is_empty() || address == instance.node.address;
        let target = match address.parse::<IpAddr>() {
            Ok(_) if on_node => self.zone_name(&[&instance.node.name, "node"]),
            Ok(ip) => self.zone_name(&[&address_label(ip), "addr"]),
            Err(_) => Name::from_utf8(address).ok(),
        };
        let Some(target) = target else { return };
        let weight = match instance.health() {
            Health::Warning => instance.service.weight_warning,
            _ => instance.service.weight_passing,
        };
        let weight = u16::try_from(weight).unwrap_or(u16::MAX);
        let srv = SRV::new(SRV_PRIORITY, weight, instance.service.port, target.clone());
        push_new(&mut answer.answers, self.record(RData::SRV(srv)));
        if let Ok(ip) = address.parse::<IpAddr>() {
            push_new(&mut answer.additionals, Record::from_rdata(target, 0, ip_data(ip)));
        }
    }

    /// Adds an address as the type asked for; a host name becomes an alias.
    fn add_addresses(&self, answer: &mut Answer, address: &str) {
        match address.parse::<IpAddr>() {
            Ok(ip) if self.wants(ip) => push_new(&mut answer.answers, self.record(ip_data(ip))),
            Ok(_) => {}
            Err(_) if answer.answers.is_empty() => {
                if let Ok(name) = Name::from_utf8(address) {
                    push_new(&mut answer.answers, self.record(RData::CNAME(CNAME(name))));
                }
            }
            Err(_) => {}
        }
    }

    fn wants(&self, ip: IpAddr) -> bool {
        match self.question.kind {
            RecordType::ANY => true,
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => false,
        }
    }

    fn node(&self, name: &str) -> Answer {
        let found = self.catalog.nodes().find(|node| node.name.eq_ignore_ascii_case(name));
        let Some(node) = found else { return self.nothing(ResponseCode::NXDomain) };
        let mut answer = self.empty();
        self.add_addresses(&mut answer, &node.address);
        let texts = self.node_texts(node);
        match self.question.kind {
            RecordType::ANY | RecordType::TXT => answer.answers.extend(texts),
            _ => answer.additionals.extend(texts),
        }
        self.or_no_data(answer)
    }

    /// A node's facts as texts `key=value`; a key that begins `rfc1035-` gives the bare value.
    fn node_texts(&self, node: &CatalogNode) -> Vec<Record> {
        let text = |(key, value): (&String, &String)| {
            let text = if key.starts_with("rfc1035-") {
                value.clone()
            } else {
                format!("{}={value}", key.replace('`', "``").replace('=', "`="))
            };
            // One text holds 255 bytes; a longer value is cut into several of one record.
            let parts: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
            self.record(RData::TXT(TXT::from_bytes(parts)))
        };
        node.meta.iter().map(text).collect()
    }

    fn address(&self, ip: IpAddr) -> Answer {
        let mut answer = self.empty();
        let record = self.record(ip_data(ip));
        if self.wants(ip) {
            answer.answers.push(record);
        } else {
            answer.additionals.push(record);
        }
        answer
    }

    fn apex(&self) -> Answer {
        let mut answer = self.empty();
        match self.question.kind {
            RecordType::SOA => answer.answers.extend(self.start_of_authority()),
            RecordType::NS => self.add_name_servers(&mut answer),
            RecordType::ANY => {
                answer.answers.extend(self.start_of_authority());
                self.add_name_servers(&mut answer);
            }
            _ => {}
        }
        self.or_no_data(answer)
    }

    fn add_name_servers(&self, answer: &mut Answer) {
        let Some(owner) = self.zone_name(&[]) else { return };
        let mut servers = self.catalog.instances("consul");
        shuffle(&mut servers, self.entropy);
        for server in servers.iter().take(NAME_SERVERS_MAX) {
            let Some(name) = self.zone_name(&[&server.node.name, "node"]) else { continue };
            let record = Record::from_rdata(owner.clone(), 0, RData::NS(NS(name.clone())));
            push_new(&mut answer.answers, record);
            if let Ok(ip) = server.node.address.parse() {
                push_new(&mut answer.additionals, Record::from_rdata(name, 0, ip_data(ip)));
            }
        }
    }

    /// Reverse names give the node, or else a service, that has the address.
    fn outside(&self) -> Answer {
        let reverse = self.question.name.parse_arpa_name().ok().map(|net| net.addr());
        let Some(ip) = reverse else { return self.bare(ResponseCode::Refused) };
        let has = |text: &str| text.parse::<IpAddr>() == Ok(ip);
        let node = self.catalog.nodes().find(|node| has(&node.address));
        let name =
            match node {
                Some(node) => self.zone_name(&[&node.name, "node", &self.zone.datacenter]),
                None => self.catalog.services().find(|service| has(&service.address)).and_then(
                    |service| self.zone_name(&[&service.name, "service", &self.zone.datacenter]),
                ),
            };
        let Some(name) = name else { return self.bare(ResponseCode::NXDomain) };
        let mut answer = self.empty();
        if matches!(self.question.kind, RecordType::PTR | RecordType::ANY) {
            answer.answers.push(self.record(RData::PTR(PTR(name))));
        }
        answer
    }

    fn empty(&self) -> Answer {
        self.bare(ResponseCode::NoError)
    }

    #[expect(clippy::unused_self, reason = "reads better beside its siblings")]
    fn bare(&self, code: ResponseCode) -> Answer {
        Answer { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }

    fn nothing(&self, code: ResponseCode) -> Answer {
        let authorities = self.start_of_authority().into_iter().collect();
        Answer { authorities, ..self.bare(code) }
    }

    /// A name that exists without the type asked for is answered with who is responsible.
    fn or_no_data(&self, answer: Answer) -> Answer {
        if answer.answers.is_empty() { self.nothing(ResponseCode::NoError) } else { answer }
    }

    fn start_of_authority(&self) -> Option<Record> {
        let owner = self.zone_name(&[])?;
        let soa = SOA::new(
            self.zone_name(&["ns"])?,
            self.zone_name(&["hostmaster"])?,
            self.unix_seconds,
            3600,
            600,
            86_400,
            0,
        );
        Some(Record::from_rdata(owner, 0, RData::SOA(soa)))
    }

    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.question.name.clone(), 0, data)
    }

    /// A name in the zone; `None` if the labels are too long for DNS. Names of nodes and addresses
    /// carry the datacenter, as Consul writes them.
    fn zone_name(&self, labels: &[&str]) -> Option<Name> {
        let parts = labels.iter().flat_map(|label| label.split('.'));
        let with_datacenter =
            matches!(labels, [_, "node" | "addr"]).then_some(self.zone.datacenter.as_str());
        let all: Vec<&[u8]> = parts
            .chain(with_datacenter)
            .chain(self.zone.domain.iter().map(String::as_str))
            .map(str::as_bytes)
            .collect();
        let mut name = Name::from_labels(all).ok()?;
        name.set_fqdn(true);
        Some(name)
    }
}

fn ip_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn push_new(records: &mut Vec<Record>, record: Record) {
    if !records.contains(&record) {
        records.push(record);
    }
}

/// Puts a list into an order that `entropy` chooses.
fn shuffle<T>(items: &mut [T], entropy: u64) {
    let mut state = entropy | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests;
