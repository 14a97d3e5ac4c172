//! Several parties rung at once for one leg: a task each tries, and this one joins them.

use crate::call::dial::LegTerms;
use crate::call::forking::Branch;
use crate::call::forking::Forking;
use crate::call::forking::Input;
use crate::call::forking::Output;
use crate::call::forking::WayId;
use crate::call::input::LegInput;
use crate::call::input::LegOutput;
use crate::engine::dial::COMMANDS_MAX;
use crate::engine::dial::CarriedDialog;
use crate::engine::dial::DialId;
use crate::engine::dial::DialNews;
use crate::engine::dial::DialRoute;
use crate::engine::dial::LegWay;
use crate::engine::dial::Line;
use crate::engine::dial::Rung;
use crate::engine::dial::Watched;
use crate::engine::dial::attempt;
use crate::engine::mailbox;
use crate::types::cause::HangupCause;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tracing::Instrument;

/// News of a party that wait; its task waits when it is full.
const NEWS_MAX: usize = 16;

/// Rings all parties, until one has the leg and that is over, or none can be had.
pub(super) async fn run(line: Line, routes: Vec<DialRoute>) {
    let forking = Forking::new(routes.len());
    let parties = routes.into_iter().map(|route| Party::start(&line, route)).collect();
    Fork { line, forking, parties, ways: Vec::new(), is_wanted: true }.run().await;
}

struct Fork {
    line: Line,
    forking: Forking,
    parties: Vec<Party>,
    /// The ways that parties are called by, by their [`WayId`].
    ways: Vec<LegWay>,
    /// The call has not let go of the leg.
    is_wanted: bool,
}

/// One party.
struct Party {
    commands: mailbox::Sender<LegOutput>,
    /// Until its task is over.
    news: Option<mailbox::Receiver<(DialId, DialNews)>>,
    /// Its dialog, until the call knows it.
    carried: Option<Box<CarriedDialog>>,
}

impl Party {
    fn start(line: &Line, route: DialRoute) -> Self {
        let (commands, obeyed) = mailbox::bounded(COMMANDS_MAX);
        let (said, news) = mailbox::bounded(NEWS_MAX);
        let own = Line {
            switch: Arc::clone(&line.switch),
            call: line.call,
            tenant: line.tenant,
            id: line.id,
            commands: obeyed,
            news: said,
        };
        // By no terms was anything offered yet.
        let life = attempt::run(own, route, (None, None), Watched::default());
        tokio::spawn(Box::pin(life).in_current_span());
        Self { commands, news: Some(news), carried: None }
    }
}

enum Woken {
    Command(Option<LegOutput>),
    News(Branch, Option<DialNews>),
}

impl Fork {
    async fn run(mut self) {
        let mut out = Vec::new();
        while self.parties.iter().any(|party| party.news.is_some()) {
            match self.next().await {
                Woken::Command(Some(output)) => {
                    self.forking.handle(Input::Told(output), &mut out);
                }
                Woken::Command(None) => {
                    self.is_wanted = false;
                    let hang_up = LegOutput::HangUp(HangupCause::Normal);
                    self.forking.handle(Input::Told(hang_up), &mut out);
                }
                Woken::News(branch, Some(news)) => self.heard(branch, news, &mut out).await,
                Woken::News(branch, None) => {
                    if let Some(party) = self.parties.get_mut(branch) {
                        party.news = None;
                    }
                    self.forking.handle(Input::Gone(branch), &mut out);
                }
            }
            for output in out.drain(..) {
                self.perform(output).await;
            }
        }
    }

    async fn next(&mut self) -> Woken {
        let Self { line, parties, is_wanted, .. } = self;
        tokio::select! {
            biased;
            command = line.commands.recv(), if *is_wanted => Woken::Command(command),
            (branch, news) = news_of(parties) => Woken::News(branch, news),
        }
    }

    async fn heard(&mut self, branch: Branch, news: DialNews, out: &mut Vec<Output>) {
        match news {
            DialNews::Leg(input) => self.forking.handle(Input::Heard(branch, input), out),
            DialNews::OfferWanted(mut way) => {
                let Some(terms) = way.terms.take() else { return };
                let known = self.ways.iter().position(|own| own.offered_for == way.offered_for);
                let id = known.unwrap_or(self.ways.len());
                if known.is_none() {
                    self.ways.push(way);
                }
                self.forking.handle(Input::OfferWanted(branch, id, terms), out);
            }
            DialNews::Carried(dialog) => {
                if let Some(party) = self.parties.get_mut(branch) {
                    party.carried = Some(dialog);
                }
            }
            // What was tried is told of all of them.
            news @ (DialNews::Sent { .. } | DialNews::Attempted(_)) => {
                self.line.report(news).await;
            }
        }
    }

    async fn perform(&mut self, output: Output) {
        match output {
            Output::ToCall(input) => {
                if matches!(input, LegInput::Answered(_)) {
                    self.tell_dialog().await;
                }
                self.line.tell(input).await;
            }
            Output::WantOffer(way, terms) => self.want_offer(way, terms).await,
            Output::ToParty(branch, output) => {
                if let Some(party) = self.parties.get(branch) {
                    // One that is gone has said so, or is about to.
                    drop(party.commands.send(output).await);
                }
            }
        }
    }

    /// The dialog of whoever answered; of those that were let go of none is told.
    async fn tell_dialog(&mut self) {
        let own = self.forking.taken_by().and_then(|branch| self.parties.get_mut(branch));
        if let Some(dialog) = own.and_then(|party| party.carried.take()) {
            self.line.report(DialNews::Carried(dialog)).await;
        }
    }

    async fn want_offer(&self, id: WayId, terms: Box<LegTerms>) {
        let Some(way) = self.ways.get(id) else { return };
        let is_taken = self.forking.taken_by().is_some();
        let rung = if is_taken { Rung::First } else { Rung::BesideOthers };
        let way = LegWay { terms: Some(terms), trunk: way.trunk.clone(), rung, ..*way };
        self.line.report(DialNews::OfferWanted(way)).await;
    }
}

/// What is next heard of any of them; for ever nothing once all of them are gone.
async fn news_of(parties: &mut [Party]) -> (Branch, Option<DialNews>) {
    poll_fn(|context| {
        for (branch, party) in parties.iter_mut().enumerate() {
            let Some(news) = &mut party.news else { continue };
            if let Poll::Ready(next) = news.poll_recv(context) {
                return Poll::Ready((branch, next.map(|(_, news)| news)));
            }
        }
        Poll::Pending
    })
    .await
}
