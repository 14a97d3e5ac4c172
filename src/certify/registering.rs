//! The switch registers on the bench, as the engine's registrar does without sockets.

use crate::certify::bench::Bench;
use crate::engine::registrar::policy;
use crate::engine::registrar::request::digest_client;
use crate::engine::registrar::request::register;
use crate::routing::registration::TrunkRegistration;
use crate::sip::digest::client::Client as DigestClient;
use crate::sip::endpoint::event::Command;
use crate::sip::endpoint::event::Token;
use crate::sip::endpoint::told::RequestAnswer;
use crate::sip::endpoint::told::RequestOutcome;
use crate::sip::message::field::FieldValue;
use crate::sip::register::Input;
use crate::sip::register::Output;
use crate::sip::register::Registration;
use crate::sip::register::Standing;
use crate::types::moment::Moment;
use std::sync::Arc;
use std::time::Duration;

/// Names the requests of the registration.
pub(super) const REGISTER: Token = Token(7);

/// The registration of the trunk under test.
pub(super) struct Registering {
    terms: Arc<TrunkRegistration>,
    core: Registration,
    cseq: u32,
    digest: Option<Box<DigestClient>>,
}

impl Registering {
    pub(super) fn new(terms: &Arc<TrunkRegistration>) -> Self {
        let core = Registration::new(policy(terms, Duration::ZERO), 1);
        Self { terms: Arc::clone(terms), core, cseq: 1, digest: digest_client(terms, 1) }
    }

    pub(super) const fn deadline(&self) -> Option<Moment> {
        self.core.deadline()
    }
}

impl Bench<'_> {
    /// The trunk registers from now on, where its profile says so.
    pub(super) fn register(&mut self) {
        let terms = self.subject.trunk.registration.as_ref();
        self.registering = terms.map(Registering::new);
        self.board.set_registered(self.subject.trunk.id, false);
        self.tell_registration(&Input::Started);
    }

    /// What came of a REGISTER.
    pub(super) fn registration_answered(&mut self, answer: RequestAnswer) {
        let Some(registering) = &mut self.registering else { return };
        registering.cseq = answer.cseq + 1;
        registering.digest = answer.digest;
        match answer.outcome {
            RequestOutcome::Answered(response) => {
                self.tell_registration(&Input::Answered(&response));
            }
            RequestOutcome::TimedOut
            | RequestOutcome::Unreachable
            | RequestOutcome::Unwritable
            | RequestOutcome::Full => self.tell_registration(&Input::Unanswered),
        }
    }

    pub(super) fn tell_registration(&mut self, input: &Input<'_>) {
        let mut out = Vec::new();
        let Some(registering) = &mut self.registering else { return };
        registering.core.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Register { expires_s } => self.send_register(expires_s),
                Output::Changed(standing) => {
                    let stands = matches!(standing, Standing::Registered { .. });
                    self.board.set_registered(self.subject.trunk.id, stands);
                }
                Output::Finished => (),
            }
        }
    }

    /// A registrar is where the trunk's gateway is: what its name resolves to is not tried here.
    fn send_register(&mut self, expires_s: u32) {
        let edge = self.subject.edge();
        let flow = self.flow(self.subject.transport_of(edge), edge);
        let Some(registering) = &mut self.registering else { return };
        let mut request = register(&registering.terms, flow, expires_s);
        request.token = REGISTER;
        request.call_id = FieldValue::new("certify-registration").ok();
        request.cseq = registering.cseq;
        request.digest = registering.digest.take();
        self.command(Command::Request(Box::new(request)));
    }
}
