//! From the checked tree of a profile to how its trunk registers.

use crate::config::tree::View;
use crate::config::trunk::Build;
use crate::routing::outbound_trunk::ClientAccount;
use crate::routing::registration::TrunkRegistration;
use std::sync::Arc;
use std::time::Duration;

/// How the trunk registers; `None` where it does not.
pub(crate) fn build(build: &mut Build<'_>) -> Option<Arc<TrunkRegistration>> {
    let view = build.view;
    if !view.flag("registration.enabled") {
        return None;
    }
    build.check_registration();
    let seconds = |path| Duration::from_secs(view.number(path));
    let registrar = view.text("registration.registrar");
    let proxy = view.given("registration.proxy");
    let aor = view.text("registration.aor");
    Some(Arc::new(TrunkRegistration {
        registrar: registrar.to_owned(),
        proxy: proxy.map(str::to_owned),
        proxy_is_route: proxy.is_some_and(is_loose),
        aor: aor.to_owned(),
        contact_user: contact_user(view).to_owned(),
        account: build.registration_account(),
        expires: seconds("registration.expires_s"),
        refresh_percent: percent(view.fraction("registration.refresh_ratio")),
        retry: view.numbers("registration.retry_s").map(Duration::from_secs).collect(),
        forbidden_retry: seconds("registration.forbidden_retry_s"),
        use_service_route: view.flag("registration.use_service_route"),
        send_path: view.flag("registration.send_path"),
    }))
}

/// `;lr` among the parameters of a URI.
fn is_loose(uri: &str) -> bool {
    uri.split(';').skip(1).any(|param| param.eq_ignore_ascii_case("lr"))
}

/// The user of a SIP URI; empty where there is none.
fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or("", |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

/// What carriers find in our Contact: the user of the address of record, unless another is given.
fn contact_user(view: View<'_>) -> &str {
    view.given("registration.contact_user").unwrap_or(user_of(view.text("registration.aor")))
}

/// The schema has bounded it.
fn percent(ratio: f64) -> u8 {
    (ratio.clamp(0.0, 1.0) * 100.0).round() as u8
}

impl Build<'_> {
    /// What is wrong only in an enabled trunk that registers, and only as a whole.
    fn check_registration(&mut self) {
        if !self.enabled {
            return;
        }
        let view = self.view;
        for path in ["registration.registrar", "registration.aor"] {
            if view.text(path).is_empty() {
                self.error(path, format!("a trunk that registers needs `{path}`"));
            }
        }
        let path = "registration.registrar";
        if !user_of(view.text(path)).is_empty() {
            self.error(path, format!("`{path}` is a domain: leave out the part before @"));
        }
        let path = "registration.aor";
        if !view.text(path).is_empty() && user_of(view.text(path)).is_empty() {
            self.error(path, format!("`{path}` has a user, as in \"sip:user@carrier.example\""));
        }
        let user = view.given("registration.username");
        let login = user.or(view.given("registration.auth_username"));
        let password = "registration.password_ref";
        if login.is_none() && view.given(password).is_some() {
            let message = "`registration.password_ref` needs `registration.username`";
            self.error(password, message.to_owned());
        }
    }

    fn registration_account(&mut self) -> Option<ClientAccount> {
        let view = self.view;
        let path = "registration.password_ref";
        // Some carriers know a circuit by its address and never ask for a password.
        let reference = view.given(path)?;
        let user = view.given("registration.auth_username");
        Some(ClientAccount {
            username: user.or(view.given("registration.username"))?.to_owned(),
            password: self.secret(reference, path, view.node(path).map(|node| node.at)),
            realm: view.given("registration.realm").map(str::to_owned),
            algorithms: Vec::new(),
        })
    }
}
