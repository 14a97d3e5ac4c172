//! Carries what agents tell was said into the database, as transcripts: off the path of calls.

use crate::clock;
use crate::engine::switch::SaidTurn;
use crate::store::database::Database;
use crate::store::transcripts;
use crate::store::transcripts::Turn;
use crate::types::limit::SAID_WAITING_MAX;
use crate::types::moment::Moment;
use std::time::Duration;
use tokio::sync::mpsc;

/// Turns that are taken at once.
const BATCH: usize = 64;
/// Pause before a database that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long turns wait for the database before they are given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where turns are told.
pub(super) type SaidTurns = mpsc::Sender<SaidTurn>;

/// Stores turns from now on, until nobody is left to tell any.
pub(super) fn start(database: Database) -> SaidTurns {
    let (told, mut heard) = mpsc::channel::<SaidTurn>(SAID_WAITING_MAX);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while heard.recv_many(&mut batch, BATCH).await > 0 {
            for turn in batch.drain(..) {
                store(&database, &turn).await;
            }
        }
    });
    told
}

async fn store(database: &Database, said: &SaidTurn) {
    let until = clock::now() + PATIENCE;
    let turn = turn_of(said);
    loop {
        match transcripts::put(database, (said.tenant, said.call), std::slice::from_ref(&turn))
            .await
        {
            Ok(_) => return,
            Err(error) if is_final(&error, until) => {
                tracing::warn!(call = %said.call, %error, "a turn of a transcript is lost");
                return;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What the database refuses it will refuse again; a database that closes does not come back.
fn is_final(error: &sqlx::Error, until: Moment) -> bool {
    matches!(error, sqlx::Error::Database(_) | sqlx::Error::PoolClosed | sqlx::Error::Encode(_))
        || clock::now() >= until
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
