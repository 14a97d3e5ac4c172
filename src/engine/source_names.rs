//! What the names in DNS stand for by which trunks know their callers: kept up to date in the background.

use crate::clock;
use crate::engine::turns::Places;
use crate::engine::turns::Turns;
use crate::net::dns::Dns;
use crate::routing::table::RoutingTable;
use crate::routing::table::SourceNames;
use crate::routing::trunk::Trunk;
use crate::sip::locate::Answer;
use crate::sip::locate::Question;
use crate::types::id::TenantId;
use crate::types::limit::SOURCE_LOOKUPS_MAX;
use crate::types::limit::SOURCE_LOOKUPS_OF_TENANT_MAX;
use crate::types::limit::SOURCE_LOOKUPS_OF_TENANTS_MAX;
use crate::types::limit::SOURCE_NAMES_MAX;
use crate::types::moment::Moment;
use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Shortest and longest wait before a name is asked again, whatever DNS says.
const WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3_600));
/// What is learned is told no more often: the table is made anew for it.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// The look-ups under way: slow names of a tenant's delay its own alone. They are few, so that DNS is asked as the
/// operator asks it: what tenants have under way for their calls keeps no carrier of another out.
const PLACES: Places = Places {
    all: SOURCE_LOOKUPS_MAX,
    tenants: SOURCE_LOOKUPS_OF_TENANTS_MAX,
    tenant: SOURCE_LOOKUPS_OF_TENANT_MAX,
};

/// Looks the names of the table's trunks up, as often as DNS says, and gives what they stand for to `put`
/// whenever that is something else. `changes` tells that the table is another.
pub async fn run(
    (table, dns): (Arc<ArcSwap<RoutingTable>>, Dns),
    mut changes: watch::Receiver<()>,
    mut stopping: watch::Receiver<bool>,
    put: impl Fn(SourceNames) + Send,
) {
    let mut names = Names::new();
    let mut lookups = FuturesUnordered::new();
    names.follow(clock::now(), &table.load());
    loop {
        names.line_up(clock::now());
        while let Some((owner, name)) = names.turns.begin() {
            lookups.push(look_up(&dns, owner, name));
        }
        if let Some(known) = names.news(clock::now()) {
            put(known);
        }
        let deadline = names.deadline().map(|at| clock::instant(at).into());
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                names.follow(clock::now(), &table.load());
            }
            Some(found) = lookups.next(), if !lookups.is_empty() => {
                names.learn(clock::now(), found);
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
    /// Whose turn it was; `None`: the operator's.
    owner: Option<TenantId>,
    name: String,
    v4: Answer,
    v6: Answer,
    /// How long that holds.
    until: Option<Moment>,
}

async fn look_up(dns: &Dns, owner: Option<TenantId>, name: String) -> Found {
    let (v4, v6) = (Question::A(name.clone()), Question::Aaaa(name.clone()));
    let (of_v4, of_v6) = tokio::join!(dns.ask(&v4), dns.ask(&v6));
    let until = [v4, v6].iter().filter_map(|question| dns.fresh_until(question)).min();
    Found { owner, name, v4: of_v4, v6: of_v6, until }
}

/// The names of all trunks.
#[derive(Debug)]
struct Names {
    all: BTreeMap<String, Name>,
    /// Those that are due.
    turns: Turns<String>,
    /// Names stand for something else than was told.
    is_different: bool,
    /// When that was told last.
    told: Option<Moment>,
}

#[derive(Debug)]
struct Name {
    /// In whose turn it is looked up; `None`: the operator's.
    owner: Option<TenantId>,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// When it is due; `None` from then on until DNS has said something.
    next: Option<Moment>,
}

fn enabled(table: &RoutingTable) -> impl Iterator<Item = &Arc<Trunk>> {
    table.trunks().filter(|trunk| trunk.enabled)
}

/// The names to be looked up, with their owners: all of the operator's, then one of each tenant after the other, until
/// there are enough. One that several list is that of who lists the fewest, so that nobody is drawn into a long line by
/// naming what another names.
fn wanted(table: &RoutingTable) -> BTreeMap<&str, Option<TenantId>> {
    let mut listed = BTreeMap::<TenantId, usize>::new();
    for trunk in enabled(table) {
        if let Some(tenant) = trunk.tenant {
            *listed.entry(tenant).or_default() += trunk.source_names.len();
        }
    }
    let owner = |trunk: &Trunk| {
        let tenant = trunk.tenant?;
        Some((listed.get(&tenant).copied().unwrap_or_default(), tenant))
    };
    // The operator, `None`, comes before all tenants.
    let mut owners = BTreeMap::<&str, Option<(usize, TenantId)>>::new();
    for trunk in enabled(table) {
        for name in &trunk.source_names {
            let first = owners.entry(name).or_insert(owner(trunk));
            *first = (*first).min(owner(trunk));
        }
    }
    let mut before = BTreeMap::<TenantId, usize>::new();
    let in_turn = |(name, owner): (_, Option<(usize, TenantId)>)| {
        let turn = owner.map(|(_, tenant)| {
            let turn = before.entry(tenant).or_default();
            *turn += 1;
            (*turn, tenant)
        });
        (turn, name)
    };
    let mut in_turn: Vec<_> = owners.into_iter().map(in_turn).collect();
    in_turn.sort_unstable();
    let chosen = in_turn.into_iter().take(SOURCE_NAMES_MAX);
    chosen.map(|(turn, name)| (name, turn.map(|(_, tenant)| tenant))).collect()
}

impl Names {
    const fn new() -> Self {
        let all = BTreeMap::new();
        Self { all, turns: Turns::new(PLACES), is_different: false, told: None }
    }

    /// Takes the names of another table; new ones are due at once.
    fn follow(&mut self, now: Moment, table: &RoutingTable) {
        let wanted = wanted(table);
        let before = self.all.len();
        self.all.retain(|name, _| wanted.contains_key(name.as_str()));
        self.turns.retain(|name| wanted.contains_key(name.as_str()));
        self.is_different |= self.all.len() != before;
        for (name, owner) in wanted {
            let new = || Name { owner, v4: Vec::new(), v6: Vec::new(), next: Some(now) };
            self.all.entry(name.to_owned()).or_insert_with(new).owner = owner;
        }
    }

    /// Has those wait for their turn that are due.
    fn line_up(&mut self, now: Moment) {
        for (text, name) in &mut self.all {
            if name.next.take_if(|at| *at <= now).is_some() {
                self.turns.push(name.owner, text.clone());
            }
        }
    }

    /// When something is due next, or to be told.
    fn deadline(&self) -> Option<Moment> {
        let tell = self.told.filter(|_| self.is_different).map(|told| told + TELL_EVERY);
        self.all.values().filter_map(|name| name.next).chain(tell).min()
    }

    /// Takes what DNS said. A failure changes nothing: who could call goes on to.
    fn learn(&mut self, now: Moment, found: Found) {
        let Found { owner, name: text, v4, v6, until } = found;
        self.turns.end(owner);
        let Some(name) = self.all.get_mut(&text) else { return };
        let wait = until.map_or(WAIT.0, |until| until.since(now)).clamp(WAIT.0, WAIT.1);
        name.next = Some(now + wait);
        for (known, answer) in [(&mut name.v4, v4), (&mut name.v6, v6)] {
            let Some(new) = addresses(answer) else { continue };
            self.is_different |= *known != new;
            *known = new;
        }
        if name.v4.is_empty() && name.v6.is_empty() {
            tracing::warn!(name = text, "DNS has no address of a name of inbound.source_dns");
        }
    }

    /// The names that stand for something, where that is another than was told, and was not told just now.
    fn news(&mut self, now: Moment) -> Option<SourceNames> {
        let is_early = self.told.is_some_and(|told| now < told + TELL_EVERY);
        if is_early || !std::mem::take(&mut self.is_different) {
            return None;
        }
        self.told = Some(now);
        Some(self.known())
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
    use crate::net::dns::DnsLimits;
    use crate::net::dns::tests::Server;
    use crate::net::dns::tests::limits;
    use crate::routing::table::Change;
    use crate::routing::table::Contents;
    use crate::types::id::TrunkId;
    use tokio::sync::mpsc;
    use tokio::time::timeout;
    use uuid::Uuid;

    const NAME: &str = "sip.example";

    fn table(names: &[&str]) -> RoutingTable {
        let mut trunk = Trunk::new(TrunkId::from_uuid(Uuid::from_u128(1)), "t", Vec::new());
        trunk.source_names = names.iter().map(|name| (*name).to_owned()).collect();
        RoutingTable::new(Contents { trunks: vec![trunk], ..Contents::default() })
    }

    fn found(v4: Answer, v6: Answer, seconds: u64) -> Found {
        let until = Some(Moment::START + Duration::from_secs(seconds));
        Found { owner: None, name: NAME.to_owned(), v4, v6, until }
    }

    fn v4(last: u8) -> Answer {
        Answer::A(vec![[192, 0, 2, last].into()])
    }

    fn known(names: &Names) -> Vec<String> {
        names.known().get(NAME).into_iter().flatten().map(ToString::to_string).collect()
    }

    /// The names whose turn it is; each is looked up until something is learned of it.
    fn due(names: &mut Names, now: Moment) -> Vec<String> {
        names.line_up(now);
        std::iter::from_fn(|| names.turns.begin()).map(|(_, name)| name).collect()
    }

    /// Whether what DNS says is something else than before.
    fn learn(names: &mut Names, now: Moment, found: Found) -> bool {
        names.learn(now, found);
        std::mem::take(&mut names.is_different)
    }

    #[test]
    fn a_name_stands_for_what_dns_says_and_keeps_it_while_dns_fails() {
        let mut names = Names::new();
        let start = Moment::START;
        names.follow(start, &table(&[NAME]));
        assert_eq!(due(&mut names, start), [NAME]);
        let v6 = Answer::Aaaa(vec!["2001:db8::7".parse().unwrap()]);
        assert!(learn(&mut names, start, found(v4(7), v6, 60)));
        assert_eq!(known(&names), ["192.0.2.7", "2001:db8::7"]);
        // As long as DNS says, and no earlier.
        let later = start + Duration::from_secs(60);
        assert_eq!((due(&mut names, start).len(), names.deadline()), (0, Some(later)));
        assert!(!learn(&mut names, later, found(Answer::Failed, Answer::Failed, 65)));
        assert_eq!(known(&names), ["192.0.2.7", "2001:db8::7"]);
        assert_eq!(names.deadline(), Some(later + WAIT.0), "it is asked soon again");
        assert!(learn(&mut names, later, found(v4(8), Answer::Failed, 100_000)));
        assert_eq!(known(&names), ["192.0.2.8", "2001:db8::7"]);
        assert_eq!(names.deadline(), Some(later + WAIT.1));
        // That there is nothing is an answer too.
        assert!(learn(&mut names, later, found(v4(8), Answer::Nothing, 120)));
        assert_eq!(known(&names), ["192.0.2.8"]);
        let odd = Answer::A(vec![[0, 0, 0, 0].into(), [224, 0, 0, 1].into()]);
        assert!(learn(&mut names, later, found(odd, Answer::Nothing, 120)));
        assert!(names.known().is_empty());
    }

    #[test]
    fn a_name_that_no_trunk_has_any_more_stands_for_nothing() {
        let mut names = Names::new();
        names.follow(Moment::START, &table(&[NAME]));
        assert_eq!(due(&mut names, Moment::START), [NAME]);
        assert!(learn(&mut names, Moment::START, found(v4(7), Answer::Nothing, 60)));
        names.follow(Moment::START, &table(&[NAME, "other.example"]));
        assert_eq!(due(&mut names, Moment::START), ["other.example"]);
        assert_eq!(known(&names), ["192.0.2.7"]);
        names.follow(Moment::START, &table(&[]));
        assert!(names.is_different);
        assert!(names.known().is_empty() && names.deadline().is_none());
    }

    fn trunk(n: u128, tenant: Option<u128>, source_names: Vec<String>) -> Trunk {
        let id = TrunkId::from_uuid(Uuid::from_u128(n));
        let tenant = tenant.map(|n| TenantId::from_uuid(Uuid::from_u128(n)));
        Trunk { tenant, source_names, ..Trunk::new(id, format!("t{n}"), Vec::new()) }
    }

    fn table_of(trunks: Vec<Trunk>) -> RoutingTable {
        RoutingTable::new(Contents { trunks, ..Contents::default() })
    }

    fn many(start: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{start}{n}.example")).collect()
    }

    #[test]
    fn the_many_names_of_tenants_leave_room_for_those_of_others() {
        let table = table_of(vec![
            trunk(1, Some(1), many("a", SOURCE_NAMES_MAX)),
            trunk(2, Some(2), many("b", SOURCE_NAMES_MAX)),
            trunk(3, Some(3), many("y", 5)),
            trunk(4, None, many("z", 100)),
        ]);
        let wanted = wanted(&table);
        assert_eq!(wanted.len(), SOURCE_NAMES_MAX);
        let of = |start: &str| wanted.keys().filter(|name| name.starts_with(start)).count();
        assert_eq!((of("z"), of("y")), (100, 5));
        assert!(of("a").abs_diff(of("b")) <= 1, "{} and {}", of("a"), of("b"));
    }

    #[test]
    fn a_name_of_several_is_looked_up_in_the_turn_of_who_has_the_fewest() {
        let shared = |mut names: Vec<String>| {
            names.push(NAME.to_owned());
            names
        };
        let mut trunks =
            vec![trunk(1, Some(1), shared(many("a", 100))), trunk(2, Some(2), shared(Vec::new()))];
        let owner = |trunks: &[Trunk]| {
            let owner = wanted(&table_of(trunks.to_vec())).get(NAME).copied().flatten();
            owner.map(|tenant| tenant.uuid().as_u128())
        };
        assert_eq!(owner(&trunks), Some(2));
        trunks.push(trunk(3, None, shared(many("z", 1_000))));
        assert_eq!(owner(&trunks), None, "the operator's");
    }

    #[test]
    fn slow_names_of_a_tenant_delay_no_name_of_another() {
        let mut names = Names::new();
        let now = Moment::START;
        let mut trunks = vec![trunk(1, Some(1), many("slow", 3_200))];
        names.follow(now, &table_of(trunks.clone()));
        let slow = due(&mut names, now);
        assert_eq!(slow.len(), SOURCE_LOOKUPS_OF_TENANT_MAX);
        // The table is another one while they are looked up.
        trunks.push(trunk(2, None, vec![NAME.to_owned()]));
        trunks.push(trunk(3, Some(3), vec!["other.example".to_owned()]));
        names.follow(now, &table_of(trunks.clone()));
        assert_eq!(due(&mut names, now), [NAME, "other.example"]);
        // Each is known as soon as DNS has said something of it.
        assert!(learn(&mut names, now, found(v4(7), Answer::Nothing, 60)));
        assert_eq!(known(&names), ["192.0.2.7"]);
        assert!(due(&mut names, now).is_empty());
        let tenant = trunks.first().and_then(|trunk| trunk.tenant);
        for name in slow {
            let (v4, v6) = (Answer::Failed, Answer::Failed);
            names.learn(now, Found { owner: tenant, name, v4, v6, until: None });
            assert_eq!(due(&mut names, now).len(), 1, "its next one");
        }
        // What waits and is wanted no more has no turn.
        trunks.remove(0);
        names.follow(now, &table_of(trunks));
        names.turns.end(tenant);
        assert!(due(&mut names, now + WAIT.1).iter().all(|name| !name.starts_with("slow")));
    }

    #[test]
    fn what_is_learned_is_told_at_once_and_then_together() {
        let mut names = Names::new();
        let start = Moment::from_millis(5_000);
        names.follow(start, &table(&[NAME]));
        assert!(names.news(start).is_none());
        assert_eq!(due(&mut names, start), [NAME]);
        names.learn(start, found(v4(7), Answer::Nothing, 60));
        assert_eq!(names.news(start).map(|told| told.len()), Some(1));
        names.learn(start, found(v4(8), Answer::Nothing, 60));
        let later = start + TELL_EVERY;
        assert_eq!((names.news(start), names.deadline()), (None, Some(later)));
        names.learn(start, found(v4(9), Answer::Nothing, 60));
        let told = names.news(later).and_then(|mut told| told.remove(NAME));
        assert_eq!(told, Some(vec!["192.0.2.9".parse().unwrap()]));
        assert!(names.news(later + TELL_EVERY).is_none());
    }

    /// Nobody ever lets its answer go.
    #[tokio::test]
    async fn while_a_name_is_slow_others_are_learned_and_other_tables_are_heard_of() {
        /// Far more than anything here takes.
        const PATIENCE: Duration = Duration::from_secs(60);
        let server = Server::start().await;
        let slow = trunk(1, None, vec!["slow.example".to_owned(), "a.example".to_owned()]);
        let table = Arc::new(ArcSwap::from_pointee(table_of(vec![slow.clone()])));
        let (changed, changes) = watch::channel(());
        let (stop, stopping) = watch::channel(false);
        let (told, mut news) = mpsc::channel(8);
        let put = move |names: SourceNames| told.try_send(names).unwrap();
        let dns = server.dns(DnsLimits { question: PATIENCE * 60, ..limits() });
        let task = tokio::spawn(run((Arc::clone(&table), dns), changes, stopping, put));
        let heard = timeout(PATIENCE, news.recv()).await.expect("in time").unwrap();
        assert_eq!(heard.keys().collect::<Vec<_>>(), ["a.example"]);
        let other = trunk(2, None, vec!["b.example".to_owned()]);
        table.store(Arc::new(table_of(vec![slow, other])));
        changed.send_replace(());
        let heard = timeout(PATIENCE, news.recv()).await.expect("in time").unwrap();
        assert_eq!(heard.keys().collect::<Vec<_>>(), ["a.example", "b.example"]);
        stop.send_replace(true);
        task.await.unwrap();
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
