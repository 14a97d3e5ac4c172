//! The audit log: who changed what.

use crate::api::auth::Caller;
use crate::api::resource::Noun;
use crate::store::audit_log::AUDIT_LOG;
use crate::store::resource::Place;
use crate::store::resource::Resource;

pub(super) struct AuditLog;

impl Noun for AuditLog {
    const RESOURCE: &'static Resource = &AUDIT_LOG;

    fn place(caller: &Caller) -> Place {
        caller.tenant.map_or(Place::All, Place::Of)
    }
}
