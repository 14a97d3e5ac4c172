//! A call asks its tenant's application who speaks.

use crate::call::asking::Answerer;
use crate::call::asking::Asked;
use crate::call::event::CallDirection;
use crate::call::input::Input;
use crate::clock;
use crate::engine::answer_hook;
use crate::engine::answer_hook::Answer;
use crate::engine::answer_hook::Asking;
use crate::engine::call_task::Task;
use crate::engine::partner;
use crate::routing::contents::is_recorded;
use crate::types::answer_hook::AskFault;
use crate::types::header::CallVariables;
use crate::types::trace_context::SpanPart;
use crate::types::trace_context::TraceContext;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// What the application says; nothing ever where it was not asked.
pub(super) async fn answered(asking: &mut Option<Asking>) -> Result<Answer, AskFault> {
    match asking {
        Some(one) => {
            let answer = one.await;
            *asking = None;
            answer
        }
        None => std::future::pending().await,
    }
}

impl Task {
    pub(super) fn ask_who_answers(&mut self) {
        let Some(hook) = self.route.profile.ask.clone() else {
            // Nobody asks for it then.
            let variables = CallVariables::default();
            let kept = Asked { answerer: Answerer::Kept, variables };
            return self.own.push_back(Input::Asked(Box::new(kept)));
        };
        let client = self.switch.http.clone();
        let trace = self.trace_context();
        self.asking = Some(answer_hook::ask(client, &hook, &self.question(), trace));
    }

    /// The call's trace, for whoever has a part in the call; `None` where traces are not kept.
    pub(super) fn trace_context(&self) -> Option<TraceContext> {
        let sampling = self.switch.sampling;
        sampling.map(|sampling| TraceContext::of(self.id(), SpanPart::Call, sampling))
    }

    fn question(&self) -> Value {
        let record = self.log.record();
        let variables = self.route.variables.iter();
        let variables = variables.map(|(name, value)| (name.to_string(), json!(value.as_str())));
        json!({
            "type": "call.answering",
            "at": clock::wall_now(),
            "tenant_id": self.route.tenant.id.uuid(),
            "call_id": record.id.uuid(),
            "call": {
                "direction": record.direction.as_str(),
                "caller": self.route.caller,
                "dialled": self.route.dialled.to_string(),
                "number_id": record.route.number.map(|id| id.uuid()),
                "ai_profile_id": self.route.profile.id.uuid(),
                "arrived_at": clock::wall(record.stages.arrived),
            },
            "variables": Value::Object(variables.collect()),
        })
    }

    /// What the call is told of the answer. A profile of another tenant is one that is not there.
    pub(super) fn who_answers(&mut self, answer: Result<Answer, AskFault>) -> Input {
        let asked = answer.and_then(|answer| self.take_answer(answer));
        Input::Asked(Box::new(asked.unwrap_or_else(|why| Asked {
            answerer: Answerer::Failed(why),
            variables: CallVariables::default(),
        })))
    }

    fn take_answer(&mut self, answer: Answer) -> Result<Asked, AskFault> {
        let mut variables = self.route.variables.clone();
        if !variables.set_all(&answer.variables) {
            return Err(AskFault::TooManyVariables);
        }
        let table = self.switch.table.load();
        let own = self.route.profile.id;
        let answerer = match answer.profile.filter(|id| *id != own) {
            None => Answerer::Kept,
            Some(id) => {
                let profile = table.ai_profile(id);
                let profile = profile.filter(|profile| profile.tenant == self.route.tenant.id);
                let profile = Arc::clone(profile.ok_or(AskFault::UnknownProfile)?);
                // Whether a call out is recorded was settled when it was placed.
                if self.log.record().direction == CallDirection::Inbound {
                    let number = table.number(self.route.dialled);
                    self.route.record =
                        is_recorded(&self.route.tenant, number.map(Arc::as_ref), &profile);
                }
                let next = partner::fallbacks(&table, &profile);
                let fallbacks = partner::next_agents(&next);
                let other = partner::next_agents(&[Arc::clone(&profile)]).pop_front();
                self.next_profiles = next.into_iter().chain([profile]).collect();
                Answerer::Other(Box::new(other.ok_or(AskFault::UnknownProfile)?), fallbacks)
            }
        };
        if !answer.variables.is_empty() {
            self.set_variables(variables);
        }
        Ok(Asked { answerer, variables: answer.variables })
    }
}
