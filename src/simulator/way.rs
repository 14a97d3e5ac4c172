//! The way to a carrier: its Contact in a network of its own, and the proxies before that.

use crate::simulator::carrier::Carrier;
use crate::simulator::judge::text;
use crate::sip::message::Request;
use crate::sip::message::name::HeaderName;
use crate::sip::message::write::ResponseWriter;
use crate::types::transport::Transport;
use std::net::IpAddr;
use std::net::SocketAddr;

/// The Contact of a carrier with a network of its own.
const PRIVATE_CONTACT: &str = "sip:gw@10.255.255.1:5060";

impl Carrier {
    /// RFC 3261 §12.2.1.1: the Request-URI is the Contact as given, the way is the route set.
    pub(super) fn check_way(&mut self, edge: SocketAddr, request: &Request) {
        let uri = String::from_utf8_lossy(request.uri.as_bytes()).into_owned();
        let contact = self.contact(edge);
        let method = String::from_utf8_lossy(request.method.as_bytes()).into_owned();
        if uri != contact {
            return self.complain(format!(
                "the Request-URI of {method} is {uri}, and should be the Contact as given, {contact}"
            ));
        }
        let route = request.headers.routes().find_map(Result::ok);
        let host = route.map(|route| text(route.uri().host()));
        let wanted = host_text(edge.ip());
        if host.as_deref() != Some(wanted.as_str()) {
            self.complain(format!("{method} does not follow the Record-Route of {wanted}"));
        }
    }

    /// Its Contact.
    pub(super) fn contact(&self, edge: SocketAddr) -> String {
        if self.model().private_contact {
            PRIVATE_CONTACT.to_owned()
        } else {
            format!("sip:{edge}")
        }
    }

    /// Its Record-Route.
    pub(super) fn record_route(&self, edge: SocketAddr) -> String {
        match self.subscription().transport {
            Transport::Udp => format!("<sip:{edge};lr>"),
            other => format!("<sip:{edge};transport={other};lr>"),
        }
    }

    /// Its Contact, and the way to it: its own proxy, and those that an INVITE came by.
    pub(super) fn write_way(
        &self,
        writer: &mut ResponseWriter,
        edge: SocketAddr,
        request: &Request,
    ) {
        writer.header(HeaderName::RecordRoute, self.record_route(edge));
        for route in recorded(request.headers.all(HeaderName::RecordRoute)) {
            writer.header(HeaderName::RecordRoute, route);
        }
        writer.header(HeaderName::Contact, format!("<{}>", self.contact(edge)));
    }
}

/// The proxies of a Record-Route, in its order.
pub(super) fn recorded<'m>(values: impl Iterator<Item = &'m [u8]>) -> Vec<String> {
    values.map(|value| text(Some(value))).collect()
}

/// An address as a URI has it.
fn host_text(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}
