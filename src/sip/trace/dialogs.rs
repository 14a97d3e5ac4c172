//! The dialogs of a trace book, by Call-ID.

use crate::sip::slab::Slab;
use crate::sip::trace::Dialog;
use crate::types::id_map::give_back;
use bytes::Bytes;
use std::collections::HashMap;

/// Dialogs by Call-ID. A dialog is large, and a table is empty to a half or more and never gets smaller: so the table
/// has names alone, and dialogs lie side by side.
#[derive(Debug)]
pub(super) struct Dialogs {
    names: HashMap<Bytes, u64>,
    dialogs: Slab<Dialog>,
}

impl Dialogs {
    pub(super) fn new() -> Self {
        Self { names: HashMap::new(), dialogs: Slab::new() }
    }

    pub(super) fn get(&self, call_id: &[u8]) -> Option<&Dialog> {
        self.get_key_value(call_id).map(|(_, dialog)| dialog)
    }

    pub(super) fn get_mut(&mut self, call_id: &[u8]) -> Option<&mut Dialog> {
        self.dialogs.get_mut(*self.names.get(call_id)?)
    }

    /// A dialog, and its Call-ID as it is kept.
    pub(super) fn get_key_value(&self, call_id: &[u8]) -> Option<(&Bytes, &Dialog)> {
        let (key, name) = self.names.get_key_value(call_id)?;
        Some((key, self.dialogs.get(*name)?))
    }

    /// The same, to be changed: Call-IDs are hashed with a key, so each look at the table counts.
    pub(super) fn get_key_value_mut(&mut self, call_id: &[u8]) -> Option<(&Bytes, &mut Dialog)> {
        let (key, name) = self.names.get_key_value(call_id)?;
        Some((key, self.dialogs.get_mut(*name)?))
    }

    pub(super) fn insert(&mut self, call_id: Bytes, dialog: Dialog) {
        let name = self.dialogs.insert(dialog);
        if let Some(before) = self.names.insert(call_id, name) {
            self.dialogs.remove(before);
        }
    }

    pub(super) fn remove_entry(&mut self, call_id: &[u8]) -> Option<(Bytes, Dialog)> {
        let (key, name) = self.names.remove_entry(call_id)?;
        give_back(&mut self.names);
        Some((key, self.dialogs.remove(name)?))
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.names.len(), self.dialogs.len());
        self.names.len()
    }
}
