//! The network addresses that a task may reach, whatever host name it used. This is the operator's policy for
//! all tasks of a worker. `allow_hosts` is the task's own policy. Both policies must allow a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wasq_protocol::AddressRange;

/// The addresses that tasks may reach in addition to the public internet, and those that they may never
/// reach.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Ranges that the operator allows, such as a private network with a service in it.
    pub allow: Vec<AddressRange>,
    /// Addresses that are never reachable, even inside an allowed range: Lambda's runtime API, through which
    /// a task could answer in the worker's name. If one is of this machine, its port is closed under every address of this
    /// machine.
    pub never: Vec<SocketAddr>,
}

impl Addresses {
    /// Returns the refusal if a task may not reach an address.
    pub fn refused(&self, address: SocketAddr) -> Option<Refused> {
        let plain = plain(address.ip());
        let never = |never: &SocketAddr| {
            address.port() == never.port()
                && (plain == never.ip() || is_this_machine(plain) && is_this_machine(never.ip()))
        };
        if self.never.iter().any(never) {
            return Some(Refused { address, what: "the worker's own", allowable: false });
        }
        let what = special(address.ip())?;
        if self.allow.iter().any(|range| range.contains(address.ip()) || range.contains(plain)) {
            return None;
        }
        Some(Refused { address, what, allowable: true })
    }
}

/// Whether an address leads to this machine, whatever its network: loopback, or no address at all.
fn is_this_machine(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0)
}

/// An address that a task may not reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address {} is {what}, which tasks may not reach{}", address.ip(), self.hint())]
pub struct Refused {
    address: SocketAddr,
    what: &'static str,
    allowable: bool,
}

impl Refused {
    fn hint(&self) -> String {
        if !self.allowable {
            return String::new();
        }
        let ip = self.address.ip();
        format!(
            "; `wasq dev` and `wasq run` allow it by --allow-address {ip}, a deployment by --allow-addresses {ip}"
        )
    }
}

/// An IPv4 address, if this IPv6 address is only another way to write or reach it.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
    }
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        // Mapped (RFC 4291), translated (RFC 2765), and the long obsolete compatible form.
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0) if g != 0 || h > 1 => Some(v4(g, h)),
        // NAT64 (RFC 6052).
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        // 6to4 (RFC 3056).
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

/// Describes an address that is not on the public internet. Taken from IANA's registries of special-purpose
/// addresses.
fn special(address: IpAddr) -> Option<&'static str> {
    match plain(address) {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        [169, 254, ..] => Some("a link-local address, where clouds have their metadata and credentials"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [100, 64..=127, ..] => Some("an address of a provider's own network"),
        [0, ..] => Some("an address of this host"),
        [224..=239, ..] => Some("a multicast address"),
        [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a reserved address"),
        [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, ..] = address.segments();
    match (a, b, c) {
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_unspecified() => Some("an address of this host"),
        (0xfe80..=0xfebf, ..) => Some("a link-local address"),
        // AWS has its metadata at fd00:ec2::254.
        (0xfc00..=0xfdff, ..) | (0xfec0..=0xfeff, ..) => Some("a private address"),
        (0xff00..=0xffff, ..) => Some("a multicast address"),
        (0x64, 0xff9b, 1) => Some("a private address"),
        // Teredo and other protocols, benchmarks, ORCHID: all of 2001::/23. Documentation; discard; segment routing.
        (0x2001, 0..=0x1ff, _) | (0x2001, 0xdb8, _) | (0x3fff, 0..=0xfff, _) => Some("a reserved address"),
        (0x100, 0, 0) | (0x5f00, ..) => Some("a reserved address"),
        // The range that is assigned to the public internet; the rest is not assigned yet.
        (0x2000..=0x3fff, ..) => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(addresses: &Addresses, address: &str) -> bool {
        let ip: IpAddr = address.parse().expect("an address");
        addresses.refused(SocketAddr::new(ip, 80)).is_some()
    }

    #[test]
    fn only_the_public_internet_is_reachable() {
        let none = Addresses::default();
        for public in [
            "1.1.1.1",
            "140.82.121.5",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "223.255.255.255",
            "2606:4700::1111",
        ] {
            assert!(!refused(&none, public), "{public}");
        }
        for special in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.100.1",
            "100.64.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "4000::1",
        ] {
            assert!(refused(&none, special), "{special}");
        }
    }

    #[test]
    fn other_ways_to_write_an_address_are_seen_through() {
        let none = Addresses::default();
        for forms in ["::ffff:{}", "::{}", "64:ff9b::{}", "::ffff:0:{}"] {
            assert!(refused(&none, &forms.replace("{}", "169.254.169.254")), "{forms}");
            assert!(refused(&none, &forms.replace("{}", "127.0.0.1")), "{forms}");
            assert!(!refused(&none, &forms.replace("{}", "1.1.1.1")), "{forms}");
        }
        assert!(refused(&none, "2002:7f00:1::1"), "6to4 of 127.0.0.1");
        assert!(refused(&none, "64:ff9b:1::1.1.1.1"), "a local NAT64");
    }

    #[test]
    fn what_an_operator_allows_is_reachable_and_the_runtime_api_never() {
        let addresses = Addresses {
            allow: ["0.0.0.0/0", "::/0"].map(|range| range.parse().unwrap()).into(),
            never: vec!["127.0.0.1:9001".parse().unwrap()],
        };
        for allowed in ["127.0.0.1", "::ffff:127.0.0.1", "fd12::1"] {
            assert!(!refused(&addresses, allowed), "{allowed}");
        }
        for api in [
            "127.0.0.1:9001",
            "[::ffff:127.0.0.1]:9001",
            "[::127.0.0.1]:9001",
            "127.0.0.2:9001",
            "0.0.0.0:9001",
            "0.1.2.3:9001",
            "[::]:9001",
            "[::1]:9001",
        ] {
            let refused = addresses.refused(api.parse().unwrap()).expect("refused");
            assert!(!refused.to_string().contains("--allow-address"), "{refused}");
        }
        assert!(addresses.refused("10.0.0.1:9001".parse().unwrap()).is_none());
    }
}
