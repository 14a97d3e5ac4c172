//! What the names in DNS stand for by which trunks know their callers: kept up to date in the background.

use crate::clock;
use crate::net::dns::Dns;
use crate::routing::table::RoutingTable;
use crate::routing::table::SourceNames;
use crate::sip::locate::Answer;
use crate::sip::locate::Question;
use crate::types::limit::SOURCE_LOOKUPS_MAX;
use crate::types::limit::SOURCE_NAMES_MAX;
use crate::types::moment::Moment;
use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Shortest and longest wait before a name is asked again, whatever DNS says.
const WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3_600));

/// Looks the names of the table's trunks up, as often as DNS says, and gives what they stand for to `put`
/// whenever that is something else. `changes` tells that the table is another.
pub async fn run(
    (table, dns): (Arc<ArcSwap<RoutingTable>>, Dns),
    mut changes: watch::Receiver<()>,
    mut stopping: watch::Receiver<bool>,
    put: impl Fn(SourceNames) + Send,
) {
    let mut names = Names::default();
    loop {
        names.follow(clock::now(), &table.load());
        let found = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            found = look_up(&dns, names.due(clock::now())) => found,
        };
        if names.learn(clock::now(), found) {
            put(names.known());
        }
        let deadline = names.deadline().map(|at| clock::instant(at).into());
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// What DNS said of a name.
struct Found {
    name: String,
    v4: Answer,
    v6: Answer,
    /// How long that holds.
    until: Option<Moment>,
}

async fn look_up(dns: &Dns, names: Vec<String>) -> Vec<Found> {
    let look_up_one = |name: String| async move {
        let (v4, v6) = (Question::A(name.clone()), Question::Aaaa(name.clone()));
        let (of_v4, of_v6) = tokio::join!(dns.ask(&v4), dns.ask(&v6));
        let until = [v4, v6].iter().filter_map(|question| dns.fresh_until(question)).min();
        Found { name, v4: of_v4, v6: of_v6, until }
    };
    stream::iter(names).map(look_up_one).buffer_unordered(SOURCE_LOOKUPS_MAX).collect().await
}

/// The names of all trunks.
#[derive(Debug, Default)]
struct Names {
    all: BTreeMap<String, Name>,
    /// Names went that stood for something.
    is_different: bool,
}

#[derive(Debug)]
struct Name {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    next: Moment,
}

impl Names {
    /// Takes the names of another table; new ones are due at once.
    fn follow(&mut self, now: Moment, table: &RoutingTable) {
        let enabled = table.trunks().filter(|trunk| trunk.enabled);
        let wanted: BTreeSet<&String> = enabled.flat_map(|trunk| &trunk.source_names).collect();
        let before = self.all.len();
        self.all.retain(|name, _| wanted.contains(name));
        self.is_different |= self.all.len() != before;
        for name in wanted.into_iter().take(SOURCE_NAMES_MAX) {
            let new = || Name { v4: Vec::new(), v6: Vec::new(), next: now };
            self.all.entry(name.clone()).or_insert_with(new);
        }
    }

    fn due(&self, now: Moment) -> Vec<String> {
        let due = self.all.iter().filter(|(_, name)| name.next <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    fn deadline(&self) -> Option<Moment> {
        self.all.values().map(|name| name.next).min()
    }

    /// Takes what DNS said; true when a name stands for something else than before. A failure changes
    /// nothing: who could call goes on to.
    fn learn(&mut self, now: Moment, found: Vec<Found>) -> bool {
        let mut is_different = std::mem::take(&mut self.is_different);
        for Found { name: text, v4, v6, until } in found {
            let Some(name) = self.all.get_mut(&text) else { continue };
            let wait = until.map_or(WAIT.0, |until| until.since(now)).clamp(WAIT.0, WAIT.1);
            name.next = now + wait;
            for (known, answer) in [(&mut name.v4, v4), (&mut name.v6, v6)] {
                let Some(new) = addresses(answer) else { continue };
                is_different |= *known != new;
                *known = new;
            }
            if name.v4.is_empty() && name.v6.is_empty() {
                tracing::warn!(name = text, "DNS has no address of a name of inbound.source_dns");
            }
        }
        is_different
    }

    /// The names that stand for something.
    fn known(&self) -> SourceNames {
        let addresses = |name: &Name| name.v4.iter().chain(&name.v6).copied().collect();
        let known = self.all.iter().map(|(text, name)| (text.clone(), addresses(name)));
        known.filter(|(_, addresses): &(String, Vec<IpAddr>)| !addresses.is_empty()).collect()
    }
}

/// The addresses of an answer, in order, so that the order of records is no difference; `None` where DNS
/// failed. No host has the others.
fn addresses(answer: Answer) -> Option<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = match answer {
        Answer::A(own) => own.into_iter().map(IpAddr::from).collect(),
        Answer::Aaaa(own) => own.into_iter().map(IpAddr::from).collect(),
        Answer::Failed => return None,
        Answer::Nothing | Answer::Srv(_) | Answer::Naptr(_) => Vec::new(),
    };
    addresses.retain(|address| !address.is_unspecified() && !address.is_multicast());
    addresses.sort_unstable();
    addresses.dedup();
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns::tests::Server;
    use crate::net::dns::tests::limits;
    use crate::routing::table::Change;
    use crate::routing::table::Contents;
    use crate::routing::trunk::Trunk;
    use crate::types::id::TrunkId;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    const NAME: &str = "sip.example";

    fn table(names: &[&str]) -> RoutingTable {
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "t", Vec::new());
        trunk.source_names = names.iter().map(|name| (*name).to_owned()).collect();
        RoutingTable::new(Contents { trunks: vec![trunk], ..Contents::default() })
    }

    fn found(v4: Answer, v6: Answer, seconds: u64) -> Vec<Found> {
        let until = Some(Moment::START + Duration::from_secs(seconds));
        vec![Found { name: NAME.to_owned(), v4, v6, until }]
    }

    fn v4(last: u8) -> Answer {
        Answer::A(vec![[192, 0, 2, last].into()])
    }

    fn known(names: &Names) -> Vec<String> {
        names.known().get(NAME).into_iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_stands_for_what_dns_says_and_keeps_it_while_dns_fails() {
        let mut names = Names::default();
        let start = Moment::START;
        names.follow(start, &table(&[NAME]));
        assert_eq!(names.due(start), [NAME]);
        let v6 = Answer::Aaaa(vec!["2001:db8::7".parse().unwrap()]);
        assert!(names.learn(start, found(v4(7), v6, 60)));
        assert_eq!(known(&names), ["192.0.2.7", "2001:db8::7"]);
        // As long as DNS says, and no earlier.
        let later = start + Duration::from_secs(60);
        assert_eq!((names.due(start).len(), names.deadline()), (0, Some(later)));
        assert!(!names.learn(later, found(Answer::Failed, Answer::Failed, 65)));
        assert_eq!(known(&names), ["192.0.2.7", "2001:db8::7"]);
        assert_eq!(names.deadline(), Some(later + WAIT.0), "it is asked soon again");
        assert!(names.learn(later, found(v4(8), Answer::Failed, 100_000)));
        assert_eq!(known(&names), ["192.0.2.8", "2001:db8::7"]);
        assert_eq!(names.deadline(), Some(later + WAIT.1));
        // That there is nothing is an answer too.
        assert!(names.learn(later, found(v4(8), Answer::Nothing, 120)));
        assert_eq!(known(&names), ["192.0.2.8"]);
        let odd = Answer::A(vec![[0, 0, 0, 0].into(), [224, 0, 0, 1].into()]);
        assert!(names.learn(later, found(odd, Answer::Nothing, 120)));
        assert!(names.known().is_empty());
    }

    #[test]
    fn a_name_that_no_trunk_has_any_more_stands_for_nothing() {
        let mut names = Names::default();
        names.follow(Moment::START, &table(&[NAME]));
        names.learn(Moment::START, found(v4(7), Answer::Nothing, 60));
        names.follow(Moment::START, &table(&[NAME, "other.example"]));
        assert_eq!(names.due(Moment::START), ["other.example"]);
        assert_eq!(known(&names), ["192.0.2.7"]);
        names.follow(Moment::START, &table(&[]));
        assert!(names.learn(Moment::START, Vec::new()));
        assert!(names.known().is_empty() && names.deadline().is_none());
    }

    #[tokio::test]
    async fn the_names_of_trunks_are_looked_up_and_put_into_the_table() {
        let server = Server::start().await;
        let table = Arc::new(ArcSwap::from_pointee(table(&["a.example", "nobody.example"])));
        let (_changed, changes) = watch::channel(());
        let (stop, stopping) = watch::channel(false);
        let (told, mut news) = mpsc::channel(8);
        let written = Arc::clone(&table);
        let put = move |names| {
            let mut next = RoutingTable::clone(&written.load());
            next.apply(Change::SourceNames(names)).unwrap();
            written.store(Arc::new(next));
            told.try_send(()).unwrap();
        };
        let of = (Arc::clone(&table), server.dns(limits()));
        let task = tokio::spawn(run(of, changes, stopping, put));
        news.recv().await.unwrap();
        let table = table.load();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(table.addresses_of("a.example"), Some([address].as_slice()));
        assert_eq!(table.addresses_of("nobody.example"), None);
        assert!(table.any_trunk_from(address, |_| true));
        stop.send_replace(true);
        task.await.unwrap();
    }
}
