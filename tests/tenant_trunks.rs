//! Trunks of tenants as their rows say: whose secrets they take, and who answers for where their peers are.

#![allow(clippy::unwrap_used, reason = "a failed check may panic")]

use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tandem::config::files::Memory;
use tandem::config::profile::Profiles;
use tandem::config::profile::TrunkRow;
use tandem::config::secret::LocalSecrets;
use tandem::types::id::TenantId;
use tandem::types::id::TrunkId;
use tandem::types::secret::Secret;

fn secrets() -> Arc<LocalSecrets> {
    Arc::new(LocalSecrets::new([("TOKEN".to_owned(), "s3cret".to_owned())], None))
}

#[test]
fn a_trunk_of_a_tenant_takes_no_secret_of_the_node_from_a_profile_that_is_not_its_own() {
    let [own, other] = [1, 2].map(|n| TenantId::from_uuid(uuid::Uuid::from_u128(n)));
    let carrier = |id: &str, more: &str| {
        let path = PathBuf::from(format!("sip-profiles/{id}.toml"));
        let text = format!(
            "schema_version = 1\nid = \"{id}\"\n{more}\n[inbound]\nsource_cidrs = [\"192.0.2.1\"]\n\
             require_headers = [{{ name = \"X-Token\", value_ref = \"env:{{vars.kind}}KEN\" }}]\n\
             [vars]\nkind = \"TO\"\n"
        );
        (path, text)
    };
    let extends = |parent: &str| format!("extends = [\"{parent}\"]");
    let files = Memory(
        [
            carrier("carrier-one", &extends("generic")),
            carrier("of-own", &format!("{}\ntenant = \"{own}\"", extends("generic"))),
            carrier("of-other", &format!("{}\ntenant = \"{other}\"", extends("generic"))),
        ]
        .into(),
    );
    let profiles = Profiles::of_folder(&files, Path::new("sip-profiles"), secrets()).unwrap();
    let header = |reference: &str| json!({"inbound": {"require_headers": [{"name": "X-Token", "value_ref": reference}]}});
    let check = |tenant, enabled, profile: &str, overrides: &serde_json::Value| {
        let row = TrunkRow {
            id: TrunkId::from_uuid(uuid::Uuid::from_u128(1)),
            name: "row",
            tenant,
            enabled,
            profile,
            overrides,
            sealed: [("known".to_owned(), Secret::new("own".to_owned()))].into(),
        };
        profiles.compose(&row).map(drop).map_err(|problems| problems.to_string())
    };
    let refused = Err("trunk row: the profile names secrets of the node (`inbound.require_headers[0].value_ref`): \
         the trunk of a tenant has its own in its overrides, as \"sealed:NAME\""
        .to_owned());
    for enabled in [true, false] {
        assert_eq!(check(Some(own), enabled, "carrier-one", &json!({})), refused);
        // The variable is the trunk's own, the reference is not.
        let var = json!({"vars": {"kind": "OTHER_TO"}});
        assert_eq!(check(Some(own), enabled, "carrier-one", &var), refused);
    }
    assert_eq!(check(None, true, "carrier-one", &json!({})), Ok(()));
    assert_eq!(check(Some(own), true, "of-own", &json!({})), Ok(()));
    for reference in ["sealed:known", "env:TOKEN"] {
        assert_eq!(check(Some(own), true, "carrier-one", &header(reference)), Ok(()));
    }
    // What is another's, or only the operator knows of, is neither shown nor of use.
    for profile in ["of-other", "of-othe", "carrier-on"] {
        let nobody = format!("trunk row: there is no profile `{profile}`");
        assert_eq!(check(Some(own), true, profile, &header("sealed:known")), Err(nobody));
    }
    let near = "trunk row: there is no profile `genric`; did you mean `generic`?".to_owned();
    assert_eq!(check(Some(own), true, "genric", &json!({})), Err(near));
}

#[test]
fn who_names_the_peers_of_a_trunk_answers_for_where_they_are() {
    let files = Memory(
        [(
            PathBuf::from("sip-profiles/sbc.toml"),
            "schema_version = 1\nid = \"sbc\"\nextends = [\"generic\"]\n[vars]\nsbc = \"10.0.0.5\"\nother = \"\"\n\
             [outbound]\nenabled = true\n[[outbound.gateway]]\nname = \"g\"\nuri = \"sip:{vars.sbc}\"\n"
                .to_owned(),
        )]
        .into(),
    );
    let profiles = Profiles::of_folder(&files, Path::new("sip-profiles"), secrets()).unwrap();
    let gateway = json!({"outbound": {"gateway": [{"name": "g", "uri": "sip:10.0.0.5"}]}});
    for (is_owned, overrides, expected) in [
        (true, json!({}), false),
        (true, json!({"limits": {"channels": 2}}), false),
        (true, json!({"vars": {"sbc": "10.0.0.6"}}), true),
        (true, gateway.clone(), true),
        (true, json!({"registration": {"registrar": "sip:10.0.0.5"}}), true),
        (true, json!({"registration": {"proxy": "sip:10.0.0.5"}}), true),
        (false, gateway, false),
    ] {
        let row = TrunkRow {
            id: TrunkId::from_uuid(uuid::Uuid::from_u128(1)),
            name: "row",
            tenant: is_owned.then(|| TenantId::from_uuid(uuid::Uuid::from_u128(2))),
            enabled: false,
            profile: "sbc",
            overrides: &overrides,
            sealed: std::collections::BTreeMap::new(),
        };
        let trunk = profiles.compose(&row).unwrap();
        assert_eq!(trunk.path.is_tenants, expected, "{overrides}");
    }
}
