//! Carries what agents tell was said into the database, as transcripts: off the path of calls.

use crate::clock;
use crate::engine::switch::SaidTurn;
use crate::store::database;
use crate::store::database::Database;
use crate::store::transcripts;
use crate::store::transcripts::Turn;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::limit::SAID_WAITING_MAX;
use crate::types::moment::Moment;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause before a database that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a turn waits for the database before it is given up.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long, at the end, what waits may take altogether.
const LAST_MAX: Duration = Duration::from_secs(5);

/// Where turns are told. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SaidTurns(mpsc::Sender<SaidTurn>);

/// The task that stores them.
pub(super) struct SaidWriter {
    /// When it has to be done, once it is known.
    until: watch::Sender<Option<Moment>>,
    task: JoinHandle<()>,
}

impl SaidTurns {
    /// Does not block: a turn that finds no room is lost.
    pub(super) fn tell(&self, turn: SaidTurn) {
        if let Err(error) = self.0.try_send(turn) {
            lose(1, &error);
        }
    }
}

fn lose(turns: u64, why: &dyn std::fmt::Display) {
    metric::counter(Counter::TranscriptTurnsLost).increment(turns);
    tracing::warn!(turns, %why, "turns of transcripts are lost");
}

/// Stores turns from now on.
pub(super) fn start(database: Database) -> (SaidTurns, SaidWriter) {
    let (told, heard) = mpsc::channel(SAID_WAITING_MAX);
    let (until, ends) = watch::channel(None);
    let task = tokio::spawn(run(database, heard, ends));
    (SaidTurns(told), SaidWriter { until, task })
}

impl SaidWriter {
    /// Stores what waits, as far as the database takes it in time; what it does not is counted. What is told from
    /// now on is lost.
    pub(super) async fn finish(self) {
        self.until.send_replace(Some(clock::now() + LAST_MAX));
        if self.task.await.is_err() {
            tracing::error!("the task that stores transcripts panicked");
        }
    }
}

async fn run(
    database: Database,
    mut heard: mpsc::Receiver<SaidTurn>,
    mut ends: watch::Receiver<Option<Moment>>,
) {
    loop {
        let turn = tokio::select! {
            biased;
            _ = ends.wait_for(Option::is_some) => break,
            turn = heard.recv() => turn,
        };
        match turn {
            Some(turn) => store(&database, &turn, &mut ends).await,
            None => return,
        }
    }
    heard.close();
    while let Some(turn) = heard.recv().await {
        store(&database, &turn, &mut ends).await;
    }
}

/// Stores a turn, however long the database is away, within bounds.
async fn store(database: &Database, said: &SaidTurn, ends: &mut watch::Receiver<Option<Moment>>) {
    let patience = clock::now() + PATIENCE;
    let turn = turn_of(said);
    loop {
        let until = ends.borrow().map_or(patience, |end| end.min(patience));
        let put = transcripts::put(
            (database, None),
            (said.tenant, said.call),
            std::slice::from_ref(&turn),
        );
        let error = tokio::select! {
            put = put => match put {
                Ok(_) => return,
                Err(error) => error,
            },
            () = tokio::time::sleep_until(clock::instant(until).into()) => sqlx::Error::PoolTimedOut,
            // It has less time from now on.
            Ok(()) = ends.changed() => continue,
        };
        if clock::now() >= until || is_final(&error) {
            return lose(1, &error);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = ends.changed() => {}
        }
    }
}

/// What the database refuses it will refuse again; a database that closes does not come back.
fn is_final(error: &sqlx::Error) -> bool {
    database::is_refusal(error) || matches!(error, sqlx::Error::PoolClosed | sqlx::Error::Encode(_))
}

fn turn_of(said: &SaidTurn) -> Turn {
    Turn {
        seq: said.seq,
        speaker: if said.by_agent { "agent" } else { "caller" }.to_owned(),
        text: said.text.clone(),
        at: clock::wall(said.at),
        at_ms: said.at_ms,
        is_final: true,
    }
}
