//! The forms of text that keys of a trunk profile take.

use crate::config::listener;
use crate::config::trunk_outbound;
use crate::routing::destination::Prefix;
use crate::routing::gateway::HopUri;
use crate::routing::outbound_trunk::Pattern;
use crate::routing::template::Scope;
use crate::routing::template::Template;
use crate::routing::template::Values;
use crate::routing::template::escaped_user;
use crate::routing::template::is_host;
use crate::types::header::CallVariables;
use crate::types::header::FieldName;
use crate::types::header::NameGlob;
use crate::types::header::VariableName;
use crate::types::id::TenantId;
use crate::types::name::GatewayName;
use crate::types::name::ListenerName;
use crate::types::name::ProfileName;
use crate::types::number::E164;
use crate::types::transport::InterfaceName;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use std::net::IpAddr;

pub(crate) fn profile_name(text: &str) -> Result<(), String> {
    text.parse::<ProfileName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn listener(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    text.parse::<ListenerName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn gateway_name(text: &str) -> Result<(), String> {
    text.parse::<GatewayName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn tenant(text: &str) -> Result<(), String> {
    if text == "*" || text.parse::<TenantId>().is_ok() {
        return Ok(());
    }
    Err("write \"*\" for a trunk all tenants share, or the id of one tenant".to_owned())
}

pub(crate) fn address_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} is not an IP address"))
}

pub(crate) fn address_or_auto(text: &str) -> Result<(), String> {
    if text == "auto" || text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()) {
        return Ok(());
    }
    Err(format!("{text:?} is neither \"auto\" nor an IP address a peer can reach"))
}

/// A name that DNS has addresses of.
pub(crate) fn dns_name(text: &str) -> Result<(), String> {
    if is_host(text) && text.parse::<IpAddr>().is_err() && !text.starts_with('[') {
        return Ok(());
    }
    Err(format!("{text:?} is no name in DNS; addresses belong into `source_cidrs`"))
}

pub(crate) fn host(text: &str) -> Result<(), String> {
    if is_host(text) || text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} is no host: write a name or an address, without a port"))
}

pub(crate) fn host_port_or_auto(text: &str) -> Result<(), String> {
    if text == "auto" { Ok(()) } else { listener::check_host_port(text) }
}

pub(crate) fn interface_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    text.parse::<InterfaceName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn network(text: &str) -> Result<(), String> {
    let good = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    if good { Ok(()) } else { Err(format!("{text:?} is no network: write 192.0.2.0/24")) }
}

/// The widest network calls are taken from: a wider one is a mistake, or an open door.
const SOURCE_PREFIX_V4_MIN: u8 = 16;
const SOURCE_PREFIX_V6_MIN: u8 = 32;

pub(crate) fn source_network(text: &str) -> Result<(), String> {
    network(text)?;
    let narrow = match text.parse::<IpNet>() {
        Ok(IpNet::V4(net)) => net.prefix_len() >= SOURCE_PREFIX_V4_MIN,
        Ok(IpNet::V6(net)) => net.prefix_len() >= SOURCE_PREFIX_V6_MIN,
        Err(_) => true,
    };
    if narrow {
        return Ok(());
    }
    let (v4, v6) = (SOURCE_PREFIX_V4_MIN, SOURCE_PREFIX_V6_MIN);
    Err(format!("{text} is too wide a network to trust: at most /{v4}, or /{v6} of IPv6"))
}

pub(crate) fn header_name(text: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    Err(format!("{text:?} is no header name"))
}

pub(crate) fn header_name_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { header_name(text) }
}

pub(crate) fn variable_name(text: &str) -> Result<(), String> {
    text.parse::<VariableName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn realm(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err("a realm has no quotes, backslashes or control characters".to_owned());
    }
    Ok(())
}

pub(crate) fn hop_uri(text: &str) -> Result<(), String> {
    text.parse::<HopUri>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn host_template(text: &str) -> Result<(), String> {
    let template = Template::parse(text, Scope::Host)?;
    let sample = sample(&template);
    if is_host(&sample) { Ok(()) } else { Err(format!("{text:?} makes no host")) }
}

pub(crate) fn user_template(text: &str) -> Result<(), String> {
    let template = Template::parse(text, Scope::User)?;
    user_text(&sample(&template))
}

pub(crate) fn user_text(text: &str) -> Result<(), String> {
    if escaped_user(text) == text {
        return Ok(());
    }
    Err(format!("{text:?} has characters that no user part of a SIP URI has"))
}

pub(crate) fn caller_template(text: &str) -> Result<(), String> {
    Template::parse(text, Scope::Caller).map(|_| ())
}

pub(crate) fn uri_template(text: &str) -> Result<(), String> {
    let template = Template::parse(text, Scope::Caller)?;
    sip_uri(&sample(&template))
}

pub(crate) fn header_template(text: &str) -> Result<(), String> {
    Template::parse(text, Scope::Header).map(|_| ())
}

/// What a template makes of an ordinary call.
fn sample(template: &Template) -> String {
    let values = Values {
        caller: "15550100",
        called: "15550101",
        gateway_host: "carrier.example",
        from_host: "carrier.example",
        area_code: "80",
        call_id: "1",
        variables: &CallVariables::default(),
        trace: None,
    };
    template.fill(&values).unwrap_or_default()
}

pub(crate) fn field_name(text: &str) -> Result<(), String> {
    text.parse::<FieldName>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn name_glob(text: &str) -> Result<(), String> {
    let open = text.strip_suffix('*').is_some();
    if NameGlob::parse(text).is_none() {
        return Err(format!("{text:?} is neither a header name nor the beginning of one and *"));
    }
    if open { Ok(()) } else { field_name(text) }
}

pub(crate) fn number_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    text.parse::<E164>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn allowed_caller(text: &str) -> Result<(), String> {
    if trunk_outbound::allowed(text).is_some() {
        return Ok(());
    }
    Err(format!("{text:?} is neither a number, a prefix as \"+9180*\", nor \"dids\""))
}

pub(crate) fn prefix_or_plus(text: &str) -> Result<(), String> {
    text.parse::<Prefix>().map(|_| ()).map_err(|error| error.to_string())
}

pub(crate) fn time_zone(text: &str) -> Result<(), String> {
    if text.is_empty() || TimeZone::get(text).is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} is no time zone this machine knows: write \"Asia/Kolkata\""))
}

pub(crate) fn sip_uri(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
    match rest {
        Some(rest)
            if !rest.is_empty()
                && !rest.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || "<>\"".contains(c)
                }) =>
        {
            Ok(())
        }
        _ => Err(format!("{text:?} is no SIP URI: write sip:host or sip:host:port")),
    }
}

pub(crate) fn sip_uri_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { sip_uri(text) }
}

/// The user part of a SIP URI (RFC 3261 §25.1), without a password.
pub(crate) fn uri_user_or_empty(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/%".contains(c);
    if text.chars().all(good) {
        return Ok(());
    }
    Err(format!("{text:?} is no user of a SIP URI: leave out the part from @ on"))
}

pub(crate) fn country_or_empty(text: &str) -> Result<(), String> {
    let two = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
    if text.is_empty() || two {
        return Ok(());
    }
    Err(format!("{text:?} is no country: write two capital letters, as in \"IN\""))
}

pub(crate) fn digits_or_empty(text: &str) -> Result<(), String> {
    if text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err("an area code has at most 8 digits".to_owned())
}

pub(crate) fn pattern(text: &str) -> Result<(), String> {
    Pattern::parse(text).map(|_| ()).map_err(|_| format!("{text:?} is no regular expression"))
}

pub(crate) fn prefix(text: &str) -> Result<(), String> {
    let digits = text.strip_prefix('+').unwrap_or("");
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("{text:?} is no prefix: write + and digits, as in \"+44\""))
}

pub(crate) fn currency(text: &str) -> Result<(), String> {
    if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err("a currency has three capital letters".to_owned())
}

pub(crate) fn time_of_day(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let part = |text: &str, max: u8| {
        text.len() == 2 && text.parse::<u8>().is_ok_and(|number| number <= max)
    };
    match text.split_once(':') {
        Some((hours, minutes)) if part(hours, 23) && part(minutes, 59) => Ok(()),
        _ => Err(format!("{text:?} is no time of day: write 09:00")),
    }
}
