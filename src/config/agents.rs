//! `[agents]` of `tandem.toml`: what addresses of agents may lead to.

use crate::config::node::key;
use crate::config::schema::Key;
use crate::config::schema::Kind;
use crate::config::tree::View;
use crate::config::trunk_text;
use crate::types::reach::Reach;
use ipnet::IpNet;
use std::net::IpAddr;

/// `[agents]`.
pub(crate) const AGENTS: &[Key] = &[key("allow_networks", Kind::ParsedList(trunk_text::network))];

/// What addresses of agents may lead to.
pub(crate) fn read(view: View<'_>) -> Reach {
    // One that is none was reported with the schema.
    let network =
        |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let networks = view.texts("agents.allow_networks").filter_map(network);
    Reach { http: false, networks: networks.collect() }
}
