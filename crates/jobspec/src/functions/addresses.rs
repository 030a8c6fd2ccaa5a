//! Functions on network addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cos_model::Value;

use super::{Answer, Function, Host, MANY, function, strings_value, text, whole};

pub(super) const TABLE: &[Function] = &[
    function("cidrhost", 2, 2, cidrhost),
    function("cidrnetmask", 1, 1, cidrnetmask),
    function("cidrsubnet", 3, 3, cidrsubnet),
    function("cidrsubnets", 2, MANY, cidrsubnets),
];

/// A network: its first address as a number, its prefix, and how long addresses are.
#[derive(Clone, Copy)]
struct Network {
    first: u128,
    prefix: u32,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network such as 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_unreadable| wrong())?;
        let (number, bits) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?;
        let network = Self { first: 0, prefix, bits };
        Ok(Self { first: number & !network.host_mask(), ..network })
    }

    fn host_mask(self) -> u128 {
        match self.bits - self.prefix {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        if self.bits == 32 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
        } else {
            IpAddr::V6(Ipv6Addr::from(number))
        }
    }

    fn show(self) -> String {
        format!("{}/{}", self.address(self.first), self.prefix)
    }

    /// The `number`th network with `added` more bits of prefix.
    fn subnet(self, added: i64, number: u128) -> Result<Self, String> {
        let prefix = u32::try_from(added).ok().and_then(|added| self.prefix.checked_add(added));
        let prefix = prefix
            .filter(|prefix| *prefix <= self.bits)
            .ok_or_else(|| format!("{} has no room for {added} more bits", self.show()))?;
        let room = prefix - self.prefix;
        if room < 128 && number >> room != 0 {
            return Err(format!("{room} bits cannot hold the number {number}"));
        }
        let shift = self.bits - prefix;
        let offset = if shift == 128 { 0 } else { number << shift };
        Ok(Self { first: self.first | offset, prefix, bits: self.bits })
    }
}

fn cidrhost(arguments: &[Value], _: &Host<'_>) -> Answer {
    let network = Network::parse(&text(arguments, 0)?)?;
    let number = whole(arguments, 1)?;
    let mask = network.host_mask();
    // Negative numbers count from the end.
    let amount = u128::from(number.unsigned_abs());
    let offset = if number < 0 {
        mask.checked_sub(amount - 1)
    } else {
        Some(amount).filter(|amount| *amount <= mask)
    };
    let offset = offset.ok_or_else(|| format!("{} has no host {number}", network.show()))?;
    Ok(Value::String(network.address(network.first | offset).to_string()))
}

fn cidrnetmask(arguments: &[Value], _: &Host<'_>) -> Answer {
    let network = Network::parse(&text(arguments, 0)?)?;
    if network.bits != 32 {
        return Err("only IPv4 networks have a netmask".to_owned());
    }
    let mask = u128::from(u32::MAX) & !network.host_mask();
    Ok(Value::String(network.address(mask).to_string()))
}

fn cidrsubnet(arguments: &[Value], _: &Host<'_>) -> Answer {
    let network = Network::parse(&text(arguments, 0)?)?;
    let number = u128::try_from(whole(arguments, 2)?)
        .map_err(|_negative| "the number of the network is negative".to_owned())?;
    Ok(Value::String(network.subnet(whole(arguments, 1)?, number)?.show()))
}

/// Cuts consecutive networks of the given sizes out of one.
fn cidrsubnets(arguments: &[Value], _: &Host<'_>) -> Answer {
    let network = Network::parse(&text(arguments, 0)?)?;
    let mut next = Some(network.first);
    let last = network.first | network.host_mask();
    let mut output = Vec::new();
    for position in 1..arguments.len() {
        let template = network.subnet(whole(arguments, position)?, 0)?;
        let size = template.host_mask();
        let full = || format!("{} has no room for all networks", network.show());
        // Rounds up to where a network of this size may begin.
        let start = next.and_then(|next| next.checked_add(size)).ok_or_else(full)? & !size;
        if start.checked_add(size).is_none_or(|end| end > last) {
            return Err(full());
        }
        output.push(Network { first: start, ..template }.show());
        next = (start + size).checked_add(1);
    }
    Ok(strings_value(output))
}
