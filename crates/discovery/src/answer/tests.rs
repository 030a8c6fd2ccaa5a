//! Questions and answers as text, and packets that are no questions.

use std::collections::BTreeMap;

use cos_model::catalog::{CatalogChange, CatalogCheck, ServiceInstance};
use hickory_proto::op::{Message, OpCode, Query};
use proptest::prelude::*;

use super::*;
use crate::wire::{Channel, respond};

/// Nodes n1…: service lines are `name node address port status tags`.
fn catalog(lines: &[&str]) -> Catalog {
    let mut catalog = Catalog::default();
    let mut index = 0;
    let mut apply = |change: CatalogChange| {
        index += 1;
        catalog.apply(index, &change).unwrap();
    };
    for (name, address) in [("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "fd00::3")] {
        apply(CatalogChange::PutNode(CatalogNode {
            name: name.into(),
            id: String::new(),
            address: address.to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            create_index: 0,
            modify_index: 0,
        }));
    }
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let id: Arc<str> = format!("{}-{}", words[0], words[3]).into();
        apply(CatalogChange::PutService(ServiceInstance {
            node: words[1].into(),
            id: Arc::clone(&id),
            name: words[0].into(),
            tags: words[5..].iter().map(|tag| (*tag).to_owned()).collect(),
            address: words[2].trim_matches('-').to_owned(),
            port: words[3].parse().unwrap(),
            meta: BTreeMap::new(),
            tagged_addresses: BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
            enable_tag_override: false,
            create_index: 0,
            modify_index: 0,
        }));
        apply(CatalogChange::PutCheck(CatalogCheck {
            node: words[1].into(),
            id: format!("c-{id}").into(),
            name: String::new(),
            status: if words[4] == "up" { Health::Passing } else { Health::Critical },
            notes: String::new(),
            output: String::new(),
            service_id: id,
            service_name: "".into(),
            definition: None,
            create_index: 0,
            modify_index: 0,
        }));
    }
    catalog
}

fn zone() -> Zone {
    Zone { domain: vec!["consul".to_owned()], datacenter: "dc1".to_owned() }
}

const SERVICES: [&str; 6] = [
    "web n1 - 80 up v1",
    "web n2 10.9.9.9 81 up v2",
    "web n1 - 82 down v1",
    "six n3 - 90 up",
    "alias n1 db.example.org 5432 up",
    "down n1 - 99 down",
];

#[track_caller]
fn check(kind: RecordType, name: &str, expected: &str) {
    let question = Question { name: Name::from_ascii(name).unwrap(), kind };
    let found = answer(&catalog(&SERVICES), &zone(), &question, 7, 3);
    let mut lines: Vec<String> =
        found.answers.iter().map(|record| record.data.to_string()).collect();
    lines.sort();
    let mut text = format!("{}: {}", found.code, lines.join(" | "));
    if !found.additionals.is_empty() {
        let mut extra: Vec<String> = found
            .additionals
            .iter()
            .map(|record| format!("{} {}", record.name, record.data))
            .collect();
        extra.sort();
        text = format!("{text} + {}", extra.join(" | "));
    }
    if !found.authorities.is_empty() {
        text.push_str(" !");
    }
    assert_eq!(text, expected, "{kind} {name}");
}

#[test]
fn a_service_is_answered_with_its_healthy_instances() {
    check(RecordType::A, "web.service.consul.", "No Error: 10.0.0.1 | 10.9.9.9");
    check(RecordType::A, "WEB.Service.CONSUL.", "No Error: 10.0.0.1 | 10.9.9.9");
    check(RecordType::A, "v2.web.service.dc1.consul.", "No Error: 10.9.9.9");
    check(RecordType::AAAA, "six.service.consul.", "No Error: fd00::3");
    check(RecordType::A, "six.service.consul.", "No Error:  !");
    check(RecordType::A, "down.service.consul.", "Non-Existent Domain:  !");
    check(RecordType::A, "none.service.consul.", "Non-Existent Domain:  !");
    check(RecordType::A, "web.service.dc9.consul.", "Non-Existent Domain:  !");
    check(RecordType::A, "alias.service.consul.", "No Error: db.example.org");
}

#[test]
fn srv_names_a_node_or_an_address_and_brings_its_record() {
    check(
        RecordType::SRV,
        "web.service.consul.",
        "No Error: 1 1 80 n1.node.dc1.consul. | 1 1 81 0a090909.addr.dc1.consul. \
         + 0a090909.addr.dc1.consul. 10.9.9.9 | n1.node.dc1.consul. 10.0.0.1",
    );
    check(
        RecordType::SRV,
        "_web._v1.consul.",
        "No Error: 1 1 80 n1.node.dc1.consul. + n1.node.dc1.consul. 10.0.0.1",
    );
}

#[test]
fn nodes_addresses_and_the_zone_are_answered() {
    check(RecordType::A, "n1.node.consul.", "No Error: 10.0.0.1 + n1.node.consul. zone=a");
    check(RecordType::TXT, "n1.node.consul.", "No Error: zone=a");
    check(RecordType::A, "0a000001.addr.consul.", "No Error: 10.0.0.1");
    check(RecordType::PTR, "1.0.0.10.in-addr.arpa.", "No Error: n1.node.dc1.consul.");
    check(RecordType::SOA, "consul.", "No Error: ns.consul. hostmaster.consul. 7 3600 600 86400 0");
    check(RecordType::A, "example.org.", "Query Refused: ");
}

fn ask(name: &str, kind: RecordType, payload: Option<u16>, channel: Channel) -> Message {
    let line = |n: u32| format!("many n1 10.1.{}.{} {} up", n / 250, n % 250, 1000 + n);
    let lines: Vec<String> = (0..300).map(line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut request = Message::query();
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(payload);
        request.set_edns(edns);
    }
    let packet = request.to_vec().unwrap();
    let bytes = respond(&packet, channel, &catalog(&lines), &zone(), 7, 3).unwrap();
    let limit = match channel {
        Channel::Udp => payload.unwrap_or(512).max(512),
        Channel::Tcp => u16::MAX,
    };
    assert!(bytes.len() <= usize::from(limit), "{} bytes for {limit}", bytes.len());
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn an_answer_fits_the_transport() {
    let count = |payload, channel| {
        ask("many.service.consul.", RecordType::SRV, payload, channel).answers.len()
    };
    assert_eq!(count(None, Channel::Udp), 3);
    assert!((4..300).contains(&count(Some(1232), Channel::Udp)));
    assert_eq!(count(None, Channel::Tcp), 300);
}

#[test]
fn an_unknown_operation_and_a_transfer_are_not_implemented() {
    let mut request = Message::query();
    request.metadata.op_code = OpCode::Status;
    request.add_query(Query::query(Name::from_ascii("a.consul.").unwrap(), RecordType::A));
    let code = |request: &Message| {
        let packet = request.to_vec().unwrap();
        let bytes = respond(&packet, Channel::Tcp, &Catalog::default(), &zone(), 0, 0).unwrap();
        Message::from_vec(&bytes).unwrap().metadata.response_code
    };
    assert_eq!(code(&request), ResponseCode::NotImp);
    let mut request = Message::query();
    request.add_query(Query::query(Name::from_ascii("consul.").unwrap(), RecordType::AXFR));
    assert_eq!(code(&request), ResponseCode::NotImp);
}

proptest! {
    #[test]
    fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let catalog = catalog(&SERVICES);
        drop(respond(&packet, Channel::Udp, &catalog, &zone(), 0, 1));
    }

    /// A real question with some bytes changed is still answered or dropped, never worse.
    #[test]
    fn no_damaged_question_panics(at in 0_usize..40, byte in any::<u8>(), entropy in any::<u64>()) {
        let mut request = Message::query();
        let name = Name::from_ascii("_web._tcp.service.consul.").unwrap();
        request.add_query(Query::query(name, RecordType::SRV));
        let mut packet = request.to_vec().unwrap();
        let at = at % packet.len();
        packet[at] = byte;
        drop(respond(&packet, Channel::Udp, &catalog(&SERVICES), &zone(), 0, entropy));
    }

    /// What is answered is healthy, whatever the order.
    #[test]
    fn answers_are_a_subset_of_the_healthy(entropy in any::<u64>()) {
        let name = Name::from_ascii("web.service.consul.").unwrap();
        let question = Question { name, kind: RecordType::A };
        let found = answer(&catalog(&SERVICES), &zone(), &question, 0, entropy);
        for record in &found.answers {
            let text = record.data.to_string();
            prop_assert!(["10.0.0.1", "10.9.9.9"].contains(&text.as_str()));
        }
        prop_assert_eq!(found.answers.len(), 2);
    }
}
