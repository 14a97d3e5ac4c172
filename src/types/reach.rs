//! `Reach`: which addresses requests to URLs of tenants may go to: none of the node's own network.

use ipnet::IpNet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Longest URL of a tenant, in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// What requests to URLs of tenants may reach. Whoever names a URL makes this node ask for it, with what
/// the node can reach and the tenant cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether `http://` will do.
    pub http: bool,
    /// Networks that may be reached although they are nobody's on the internet.
    pub networks: Vec<IpNet>,
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Over TLS.
    pub is_secure: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as the request names them (RFC 9112 §3.2).
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Reach {
    /// Where `url` leads, if it may be asked for as far as its text tells. A name is judged again by its
    /// addresses, with [`Self::permits`], whenever it is connected to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn destination(&self, url: &str) -> Result<Destination, &'static str> {
        if url.len() > URL_BYTES_MAX {
            return Err("a URL has at most 2048 bytes");
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL is ASCII without spaces");
        }
        let schemes = if self.http {
            "a URL begins with http:// or https://"
        } else {
            "a URL begins with https://"
        };
        let (scheme, rest) = url.split_once("://").ok_or(schemes)?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" if self.http => false,
            "http" => return Err("http:// is not allowed on this node (webhooks.allow_http)"),
            _ => return Err(schemes),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("a URL here has no user and no password");
        }
        let (host, port) = split_authority(authority).ok_or("the URL names no usable host")?;
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        if port == 0 {
            return Err("the URL names no usable port");
        }
        if let Ok(address) = host.parse::<IpAddr>()
            && !self.permits(address)
        {
            return Err(
                "the URL leads into a network that is not reached (webhooks.allow_networks)",
            );
        }
        if !self.http && self.networks.is_empty() && is_local_name(host) {
            return Err("the URL leads to this machine");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, authority) = (host.to_owned(), authority.to_owned());
        Ok(Destination { is_secure, host, port, authority, path })
    }

    /// Whether an agent at `address` may be connected to: openly only in the networks that are listed.
    #[must_use]
    pub fn permits_agent(&self, address: IpAddr, is_secure: bool) -> bool {
        let address = address.to_canonical();
        let is_listed = self.networks.iter().any(|network| network.contains(&address));
        is_listed || (is_secure && is_public(address))
    }

    /// Judges where an agent is, a `ws://` or `wss://` URL or a host and port, as far as the text tells. A name
    /// is judged by its addresses, with [`Self::permits_agent`], whenever it is connected to.
    ///
    /// # Errors
    /// Why no agent may be there.
    pub fn judge_agent(&self, place: &str) -> Result<(), &'static str> {
        let (scheme, rest) = place.split_once("://").unwrap_or(("", place));
        let is_secure = scheme.eq_ignore_ascii_case("wss");
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match address_of(authority) {
            Some(address) if !self.permits_agent(address, is_secure) => Err(NOT_REACHED),
            Some(_) | None => Ok(()),
        }
    }

    /// Judges whom a SIP address names, as far as its text tells. A name is judged by its addresses, with
    /// [`Self::permits`], whenever it is called.
    ///
    /// # Errors
    /// Why nobody there may be called.
    pub fn judge_call(&self, uri: &str) -> Result<(), &'static str> {
        let (_scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
        let (_user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        match address_of(place.split([';', '?']).next().unwrap_or_default()) {
            Some(address) if !self.permits(address) => Err(NOT_REACHED),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a connection to `address` may be opened.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        is_public(address.to_canonical()) || self.lists(address)
    }

    /// Whether an address is in one of the networks that are listed.
    #[must_use]
    pub fn lists(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

const NOT_REACHED: &str =
    "the address is in a network that agents are not reached in (agents.allow_networks)";

/// The address that stands for the host; `None` for a name.
fn address_of(authority: &str) -> Option<IpAddr> {
    let (_user, named) = authority.rsplit_once('@').unwrap_or(("", authority));
    let host = match named.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => named.split(':').next().unwrap_or_default(),
    };
    host.parse().ok()
}

/// Host, without brackets, and port.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = (1..=253).contains(&host.len()) && host.bytes().all(is_name);
    // "127.1", "0x7f.1" and "2130706433" are addresses to some resolvers: who ends in a number is one, in full.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_numeric = last.starts_with(|first: char| first.is_ascii_digit());
    let is_good = is_host && (!is_numeric || host.parse::<Ipv4Addr>().is_ok());
    is_good.then_some((host, port))
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether an address is somebody's on the internet (the registries of RFC 6890 say which are not).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a >= 224
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, c, ..] = segments;
    let [.., high, low] = segments;
    let last = (u32::from(high) << 16) | u32::from(low);
    match (a, b) {
        // Translated (RFC 6052) and tunnelled (RFC 3056) addresses are as good as what they hold.
        (0x64, 0xff9b) => is_public_v4(Ipv4Addr::from_bits(last)) && c == 0,
        (0x2002, high) => is_public_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(c))),
        // Teredo, benchmarks, documentation and other special blocks.
        (0x2001, b) if b < 0x200 || b == 0xdb8 => false,
        (0x3fff, b) if b < 0x1000 => false,
        // Global unicast is 2000::/3; the rest is local, multicast or not given to anybody.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ones_own_network_are_not_reached_in_any_spelling() {
        let reach = Reach::default();
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
        ] {
            assert!(!reach.permits(address.parse().unwrap()), "{address}");
            let url = if address.contains(':') {
                format!("https://[{address}]/")
            } else {
                format!("https://{address}/")
            };
            assert!(reach.destination(&url).is_err(), "{url}");
        }
        for address in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(reach.permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn agents_are_spoken_with_openly_in_listed_networks_alone() {
        let none = Reach::default();
        let reach = Reach { http: false, networks: vec!["10.1.0.0/16".parse().unwrap()] };
        let permits = |reach: &Reach, address: &str, is_secure| {
            reach.permits_agent(address.parse().unwrap(), is_secure)
        };
        for is_secure in [true, false] {
            assert!(permits(&reach, "10.1.2.3", is_secure));
            assert!(permits(&reach, "::ffff:10.1.2.3", is_secure));
            assert!(!permits(&none, "10.1.2.3", is_secure));
            assert!(!permits(&none, "127.0.0.1", is_secure));
            assert!(!permits(&none, "169.254.169.254", is_secure));
            assert_eq!(permits(&none, "8.8.8.8", is_secure), is_secure);
        }
    }

    #[test]
    fn where_an_agent_is_is_judged_as_far_as_its_text_tells() {
        let reach = Reach { http: false, networks: vec!["10.1.0.0/16".parse().unwrap()] };
        for place in [
            "ws://10.1.2.3:8080/x",
            "wss://[2606:4700::1111]/",
            "wss://8.8.8.8",
            "10.1.2.3:9092",
            "ws://bot.example/",
            "bot:9092",
        ] {
            assert_eq!(reach.judge_agent(place), Ok(()), "{place}");
        }
        for place in [
            "ws://127.0.0.1:8080/x",
            "wss://user@169.254.169.254/latest",
            "WS://[::1]:1/",
            "ws://[::ffff:10.2.0.1]/",
            "ws://8.8.8.8/",
            "192.168.1.1:9092",
        ] {
            assert!(reach.judge_agent(place).is_err(), "{place}");
        }
    }

    #[test]
    fn whom_a_sip_address_names_is_judged_as_far_as_its_text_tells() {
        let reach = Reach { http: false, networks: vec!["10.1.0.0/16".parse().unwrap()] };
        for uri in [
            "sip:bot@10.1.2.3:5080;transport=tcp",
            "sip:8.8.8.8",
            "sips:bot@[2606:4700::1111]",
            "sip:10.2.0.1@bot.example",
            "tel:+15550100",
        ] {
            assert_eq!(reach.judge_call(uri), Ok(()), "{uri}");
        }
        for uri in [
            "sip:bot@127.0.0.1:5080;transport=tcp",
            "SIP:10.2.0.1",
            "sips:a;b=c@[::1]:5061?X=y",
            "sip:bot@[::ffff:10.2.0.1]",
        ] {
            assert!(reach.judge_call(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn what_the_node_allows_is_reached() {
        let reach = Reach { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };
        assert!(reach.permits("127.0.0.9".parse().unwrap()));
        assert!(reach.permits("::ffff:127.0.0.9".parse().unwrap()));
        assert!(!reach.permits("10.0.0.1".parse().unwrap()));
        let listed = ["127.0.0.9", "::ffff:127.0.0.9", "8.8.8.8"].map(|address| {
            let address = address.parse().unwrap();
            (reach.lists(address), reach.permits(address))
        });
        assert_eq!(listed, [(true, true), (true, true), (false, true)]);
        let to = reach.destination("http://127.0.0.1:8080?a=1#x").unwrap();
        assert_eq!((to.host.as_str(), to.port, to.path.as_str()), ("127.0.0.1", 8080, "/?a=1"));
        assert!(!to.is_secure);
        for wrong in ["ftp://127.0.0.1/", "127.0.0.1"] {
            let refused = |reach: &Reach| reach.destination(wrong).unwrap_err();
            assert_eq!(refused(&reach), "a URL begins with http:// or https://");
            assert_eq!(refused(&Reach::default()), "a URL begins with https://");
        }
    }

    #[test]
    fn a_url_is_taken_apart_or_refused() {
        let reach = Reach::default();
        let to = reach.destination("HTTPS://Hooks.Example:8443/a/b?c=d").unwrap();
        assert_eq!((to.host.as_str(), to.port), ("Hooks.Example", 8443));
        assert_eq!((to.authority.as_str(), to.path.as_str()), ("Hooks.Example:8443", "/a/b?c=d"));
        assert_eq!(reach.destination("https://x.example").unwrap().path, "/");
        for bad in [
            "",
            "x",
            "ftp://x.example/",
            "http://x.example/",
            "https://",
            "https://:443/",
            "https://user:pw@x.example/",
            "https://x.example:0/",
            "https://x.example:99999/",
            "https://x y/",
            "https://[::1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://localhost/",
            "https://a.localhost./",
            "https://x\u{e9}/",
            "https://x.example\\@127.0.0.1/",
        ] {
            assert!(reach.destination(bad).is_err(), "{bad}");
        }
        assert!(reach.destination(&format!("https://x.example/{}", "a".repeat(2_048))).is_err());
    }
}
