//! The servers of `/etc/resolv.conf` (resolv.conf(5)); everything else in it is passed over.

use std::net::SocketAddr;

use crate::settings::NAMESERVERS;

/// The servers that the file's text names, in its order.
pub(super) fn of_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        let address = words.next()?;
        // A link's number (fe80::1%2) may stand behind an address; names of links are not known.
        match address.split_once('%') {
            Some((ip, link)) => {
                let (ip, link) = (ip.parse().ok()?, link.parse().ok()?);
                Some(std::net::SocketAddrV6::new(ip, 53, 0, link).into())
            }
            None => Some(SocketAddr::new(address.parse().ok()?, 53)),
        }
    };
    text.lines().filter_map(server).take(NAMESERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_the_rest() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2 # ours\n\
                    nameserver\t::1\nnameserver fe80::1%3\nnameserver fe80::1%eth0\n\
                    nameserver none\noptions ndots:5\nnameservers 1.2.3.4\n";
        let found: Vec<String> = of_resolv_conf(text)
            .iter()
            .map(|one| one.to_string())
            .collect();
        assert_eq!(found, ["10.0.0.2:53", "[::1]:53", "[fe80::1%3]:53"]);
        assert_eq!(
            of_resolv_conf(&"nameserver ::1\n".repeat(99)).len(),
            NAMESERVERS
        );
    }
}
