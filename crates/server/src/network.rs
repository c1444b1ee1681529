//! Networks: whom an address stands for.

use std::net::{IpAddr, Ipv6Addr};

/// The network an address stands for: one customer's line is one IPv4 address or one IPv6 /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_ipv4_address_or_64_bits_of_an_ipv6_address() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("2001:db8::1"), "2001:db8::");
        assert_eq!(of("2001:db8::ffff:ffff:ffff:ffff"), "2001:db8::");
        assert_eq!(of("2001:db8:0:1::1"), "2001:db8:0:1::");
    }
}
