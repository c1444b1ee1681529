//! Which addresses the server connects to when others say where. Whoever may name a URL must not reach through the server
//! what only the server reaches: by default addresses of the public internet alone, checked on the address that is
//! connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use reqwest::Url;

/// The longest URL, in bytes.
const MOST_URL: usize = 1000;

/// Whether this address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_reserved = a == 0 // RFC 1122 §3.2.1.3
        || a >= 224 // multicast, reserved, broadcast
        || (a == 100 && (64..128).contains(&b)) // RFC 6598, behind carriers
        || (a == 192 && b == 0 && c == 0) // RFC 6890
        || (a == 192 && b == 88 && c == 99) // RFC 7526, once the way to 6to4
        || (a == 198 && (b == 18 || b == 19)); // RFC 2544
    !(is_reserved
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, ..] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address within.
        (0x64, 0xff9b) => {
            let [.., high, low] = address.segments();
            c == 0 && is_public_v4(embedded(high, low))
        }
        (0x2002, _) => is_public_v4(embedded(b, c)),
        (0x2001, 0x0db8) => false,          // documentation
        (0x3fff, b) if b < 0x1000 => false, // RFC 9637: documentation
        (0x2001, b) if b < 0x0200 => false, // RFC 6890: Teredo and other protocols
        _ => a & 0xe000 == 0x2000,          // global unicast; not loopback, unique local, link-local, multicast
    }
}

/// Whether this address may be connected to.
pub(super) fn may_reach(address: IpAddr, allowed: &[IpNet]) -> bool {
    is_public(address) || is_allowed(address, allowed)
}

/// Whether the address is in a network that was opened by name.
pub(super) fn is_allowed(address: IpAddr, allowed: &[IpNet]) -> bool {
    allowed.iter().any(|network| network.contains(&address.to_canonical()))
}

/// The address that the URL names instead of a host name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// A URL that requests may be sent to, or what is wrong with it.
pub(super) fn target_url(text: &str, takes_plain_http: bool) -> Result<Url, &'static str> {
    let url: Url = text.parse().map_err(|_| "must be a URL such as https://hooks.example.org/keyward")?;
    if text.len() > MOST_URL {
        return Err("must not be longer than 1000 bytes");
    }
    match url.scheme() {
        "https" => {}
        "http" if takes_plain_http => {}
        "http" => return Err("must be https; plain http goes only into networks named in allow_networks"),
        _ => return Err("must be https"),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must hold neither a user nor a fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for address in [
            "1.1.1.1",
            "192.0.1.1",
            "192.88.98.1",
            "3fff:1000::1",
            "100.63.255.255",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "192.88.99.1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_network_that_was_opened_is_open_in_either_spelling() {
        let allowed = ["10.1.0.0/16".parse().unwrap()];
        assert!(may_reach("10.1.2.3".parse().unwrap(), &allowed));
        assert!(may_reach("::ffff:10.1.2.3".parse().unwrap(), &allowed));
        assert!(!may_reach("10.2.0.1".parse().unwrap(), &allowed));
    }

    #[test]
    fn odd_spellings_of_an_address_are_the_address() {
        for text in ["https://127.1/", "https://0x7f000001/", "https://2130706433/", "https://[::1]/"] {
            let url = target_url(text, false).unwrap();
            assert!(literal(&url).is_some_and(|address| !is_public(address)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "hooks.example.org",
            "http://h.example/",
            "ftp://h.example/",
            "https://u:p@h.example/",
            "https://h.example/#x",
        ] {
            assert!(target_url(text, false).is_err(), "{text}");
        }
        assert!(target_url("http://h.example/", true).is_ok());
    }
}
