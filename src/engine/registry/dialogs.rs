//! Which running call has which dialog of a caller, for those that are to be replaced. Dialogs of one
//! call may be in different shards; they meet here.

use crate::call::input::Input;
use crate::call::input::LegInput;
use crate::call::input::Successor;
use crate::call::side::LegSide;
use crate::engine::mailbox;
use crate::engine::registry::Registry;
use crate::engine::replacement::Replacement;
use crate::engine::replacement::Replacer;
use crate::sip::endpoint::flow::Flow;
use crate::sip::endpoint::told::DialogName;
use crate::types::cause::HangupCause;
use crate::types::id::CallId;
use bytes::Bytes;
use std::sync::Arc;

impl Registry {
    /// Notes the dialog of the caller of a running call, in place of the one before.
    pub(in crate::engine) fn name_dialog(&self, id: CallId, name: DialogName) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.calls.get_mut(&id) else { return };
        let name = Arc::new(name);
        if let Some(before) = entry.dialog.replace(Arc::clone(&name)) {
            inner.dialogs.remove(&before);
        }
        inner.dialogs.insert(name, id);
    }

    /// Hands the new leg of a caller to the call whose leg it is to replace.
    ///
    /// # Errors
    /// Why not, with the leg, which is still to be refused: nothing has that dialog (`UnknownDialog`), it
    /// is not one of the trunk's and tenant's that ask (`Policy`), it is answered and only an unanswered
    /// one was meant (`Busy`), or its call takes no such thing at this moment (`Overload`).
    pub(in crate::engine) fn replace(
        &self,
        by: Replacer<'_>,
        replacement: Replacement,
        offer: Option<Bytes>,
    ) -> Result<CallId, (HangupCause, Box<Replacement>)> {
        let replaces = by.replaces;
        let name = DialogName {
            call_id: replaces.call_id.clone(),
            local_tag: replaces.to_tag.clone(),
            remote_tag: replaces.from_tag.clone(),
        };
        let mut inner = self.lock();
        let inner = &mut *inner;
        let id = inner.dialogs.get(&name).copied();
        let found = id.and_then(|id| Some((id, inner.calls.get_mut(&id)?)));
        let cause = match found {
            None => HangupCause::UnknownDialog,
            Some((_, entry)) if entry.tenant != by.tenant || entry.trunk.id != by.trunk => {
                HangupCause::Policy
            }
            Some(_) if replaces.is_early_only => HangupCause::Busy,
            Some((_, entry)) if entry.replacement.is_some() => HangupCause::Overload,
            Some((id, entry)) => {
                let by = Box::new(Successor { offer, place: None, srtp: None });
                let input = Input::Leg(LegSide::Near, LegInput::Replaced(by));
                let told = entry.inputs.upgrade().map(|inputs| inputs.try_send(input));
                if matches!(told, Some(Ok(()))) {
                    entry.replacement = Some(Box::new(replacement));
                    return Ok(id);
                }
                HangupCause::Overload
            }
        };
        Err((cause, Box::new(replacement)))
    }

    /// What keeps the queue of a running call open.
    pub(in crate::engine) fn inputs_of(&self, id: CallId) -> Option<mailbox::Sender<Input>> {
        self.lock().calls.get(&id)?.inputs.upgrade()
    }

    /// The flow by which the new leg came that a call was handed.
    pub(in crate::engine) fn replacement_flow(&self, id: CallId) -> Option<Flow> {
        Some(self.lock().calls.get(&id)?.replacement.as_ref()?.flow)
    }

    /// The new leg that a call was handed, with what keeps the call's queue open.
    pub(in crate::engine) fn take_replacement(
        &self,
        id: CallId,
    ) -> Option<(Box<Replacement>, mailbox::Sender<Input>)> {
        let mut inner = self.lock();
        let entry = inner.calls.get_mut(&id)?;
        let inputs = entry.inputs.upgrade()?;
        Some((entry.replacement.take()?, inputs))
    }
}
