//! Webhooks: tells tenants what happens to their calls, at least once, in order for each call, however slow or
//! dead some of them are.

mod deliverer;

pub use crate::webhook::deliverer::Deliverer;
