//! Network addresses, as operators write them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses in CIDR notation (`10.0.0.0/8`, `fd00::/8`), or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether the range contains an address. IPv4 and IPv6 never match each other: an IPv4-mapped IPv6
    /// address is not an IPv4 address here.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same_prefix(first.to_ipv6_mapped(), address.to_ipv6_mapped(), self.prefix + 96)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => same_prefix(first, address, self.prefix),
            _ => false,
        }
    }
}

fn same_prefix(one: Ipv6Addr, other: Ipv6Addr, prefix: u8) -> bool {
    let differing = u128::from(one) ^ u128::from(other);
    differing.leading_zeros() >= u32::from(prefix)
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |what: &str| {
            format!(
                "{text:?} {what}; write a range of addresses like \"10.0.0.0/8\", \"fd00::/8\" or \"127.0.0.1\""
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| error("begins with no address"))?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= most),
            None => Some(most),
        };
        let prefix = prefix.ok_or_else(|| error(&format!("ends in no number from 0 to {most}")))?;
        let range = Self { first, prefix };
        // Bits after the prefix are a mistake: 10.1.0.0/8 allows more than it seems to.
        let lowest = match first {
            IpAddr::V4(first) => u128::from(u32::from(first)) << 96,
            IpAddr::V6(first) => u128::from(first),
        };
        if prefix < 128 && lowest << prefix != 0 {
            return Err(error(&format!("has bits set after its first {prefix}")));
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// Ranges separated by commas, as an environment variable has them. An empty text has no ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges(pub Vec<AddressRange>);

impl FromStr for AddressRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
        ranges.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::AddressRange;

    #[track_caller]
    fn check(range: &str, within: &[&str], without: &[&str]) {
        let parsed: AddressRange = range.parse().expect("a range");
        for address in within {
            assert!(parsed.contains(address.parse().unwrap()), "{address} in {range}");
        }
        for address in without {
            assert!(!parsed.contains(address.parse().unwrap()), "{address} not in {range}");
        }
    }

    #[test]
    fn ranges() {
        check(
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255"],
            &["9.255.255.255", "11.0.0.0", "::ffff:10.0.0.1"],
        );
        check("127.0.0.1", &["127.0.0.1"], &["127.0.0.2", "::1"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::"]);
        check("fd00::/8", &["fd00::", "fdff::1"], &["fc00::", "fe00::"]);
        check("::1/128", &["::1"], &["::2"]);
        check("::/0", &["::", "ffff::"], &["1.2.3.4"]);
    }

    #[test]
    fn texts_that_are_no_range() {
        for (text, told) in [
            ("localhost", "begins with no address"),
            ("10.0.0.0/33", "no number from 0 to 32"),
            ("10.0.0.0/", "no number from 0 to 32"),
            ("::/129", "no number from 0 to 128"),
            ("10.1.0.0/8", "has bits set after its first 8"),
            ("fd00::1/8", "has bits set after its first 8"),
        ] {
            let error = text.parse::<AddressRange>().expect_err("no range");
            assert!(error.contains(told) && error.contains(text), "{error}");
        }
    }
}
