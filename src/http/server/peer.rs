//! The client's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The client's end of the connection. Every request has it as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The network that counts as one client: an IPv4 address, or an IPv6 /64.
    pub fn network(self) -> IpAddr {
        self.masked(32, 64)
    }

    /// The prefix that is likely to belong to one owner: an IPv4 /24, or an IPv6 /48.
    pub fn prefix(self) -> IpAddr {
        self.masked(24, 48)
    }

    /// Keeps so many bits of an IPv4 or IPv6 address.
    fn masked(self, ipv4_bits: u32, ipv6_bits: u32) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX << (u32::BITS - ipv4_bits);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX << (u128::BITS - ipv6_bits);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        let network = |text| peer(text).network();
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"));
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }

    #[test]
    fn a_prefix_is_an_ipv4_24_or_an_ipv6_48() {
        let prefix = |text| peer(text).prefix();
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.254"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:2::1"));
        assert_ne!(prefix("2001:db8:0:1::1"), prefix("2001:db8:1:1::1"));
    }
}
