//! DNS for SIP: one question at a time to the resolver, answers kept, old ones used while it fails.

pub mod cache;
#[cfg(test)]
pub(crate) mod tests;

use crate::clock;
use crate::net::dns::cache::Cache;
use crate::net::dns::cache::Keeping;
use crate::net::dns::cache::Known;
use crate::sip::locate::Answer;
use crate::sip::locate::LocateError;
use crate::sip::locate::Locator;
use crate::sip::locate::Missed;
use crate::sip::locate::NaptrRecord;
use crate::sip::locate::NextHop;
use crate::sip::locate::Question;
use crate::sip::locate::Rules;
use crate::sip::locate::SrvRecord;
use crate::sip::locate::Target;
use crate::telemetry::metric;
use crate::telemetry::metric::Counter;
use crate::types::id::TenantId;
use crate::types::limit::DNS_ENTRIES_MAX;
use crate::types::limit::DNS_QUESTIONS_MAX;
use crate::types::limit::DNS_TENANT_QUESTIONS_MAX;
use crate::types::limit::DNS_TENANTS_QUESTIONS_MAX;
use crate::types::limit::LOCATE_RECORDS_MAX;
use crate::types::moment::Moment;
use crate::types::random::Random;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::Resolver;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::DnsError;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::RecordType;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Bounds of asking.
#[derive(Clone, Copy, Debug)]
pub struct DnsLimits {
    /// Longest wait for one answer, repetitions included. Over it: a failure.
    pub question: Duration,
    /// Longest wait for an answer while an old one is at hand. Over it: the old one.
    pub patience: Duration,
    /// Longest search for the targets of one next hop. Over it: those that are found by then.
    pub search: Duration,
    /// Answers kept.
    pub entries_max: usize,
    /// Questions under way at once. Over it: a new one fails at once.
    pub questions_max: usize,
    /// Questions among them that came first for addresses which tenants name. Over it: a new one of theirs
    /// fails at once.
    pub tenants_questions_max: usize,
    /// The same of one tenant, or of one peer of a tenant's.
    pub tenant_questions_max: usize,
    /// How long answers are kept.
    pub keeping: Keeping,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            question: Duration::from_secs(2),
            patience: Duration::from_millis(500),
            search: Duration::from_secs(6),
            entries_max: DNS_ENTRIES_MAX,
            questions_max: DNS_QUESTIONS_MAX,
            tenants_questions_max: DNS_TENANTS_QUESTIONS_MAX,
            tenant_questions_max: DNS_TENANT_QUESTIONS_MAX,
            keeping: Keeping::default(),
        }
    }
}

/// DNS as SIP needs it. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Dns(Arc<Shared>);

struct Shared {
    resolver: Option<TokioResolver>,
    limits: DnsLimits,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    /// Questions under way: whoever asks the same waits for the same answer.
    under_way: HashMap<Question, watch::Receiver<Option<Answer>>>,
    /// How many of them came first for addresses which tenants name.
    of_tenants: usize,
    /// How many for each of those that do.
    of_each: HashMap<Named, usize>,
}

impl State {
    /// Takes a place for a question; false where there is none.
    fn take_place(&mut self, named: Named, limits: &DnsLimits) -> bool {
        if self.under_way.len() >= limits.questions_max {
            return false;
        }
        if named == Named::ByOperator {
            return true;
        }
        let own = self.of_each.get(&named).copied().unwrap_or_default();
        if self.of_tenants >= limits.tenants_questions_max || own >= limits.tenant_questions_max {
            return false;
        }
        self.of_tenants += 1;
        self.of_each.insert(named, own + 1);
        true
    }

    fn give_back_place(&mut self, named: Named) {
        // The operator has none there.
        let Some(own) = self.of_each.get_mut(&named) else { return };
        *own = own.saturating_sub(1);
        if *own == 0 {
            self.of_each.remove(&named);
        }
        self.of_tenants = self.of_tenants.saturating_sub(1);
    }
}

/// Who says where a search leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    /// The operator: its trunks.
    ByOperator,
    /// A tenant, `None` where nobody knows which: its own trunks, agents, transfers.
    ByTenant(Option<TenantId>),
    /// A peer at this address, which has a call of some tenant's.
    ByPeer(IpAddr),
}

/// Too many questions are under way.
#[derive(Debug)]
struct TooMany;

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Dns {
    /// The DNS servers this machine is configured for (`/etc/resolv.conf`), and its hosts file. Where
    /// there are none, every question fails.
    #[must_use]
    pub fn of_system(limits: DnsLimits) -> Self {
        let builder = TokioResolver::builder_tokio();
        let resolver = builder.map_err(|error| {
            tracing::warn!(%error, "the DNS settings of this machine cannot be read: names of gateways are not found");
        });
        let resolver = resolver.ok().and_then(|mut builder| {
            set(builder.options_mut(), &limits);
            builder.options_mut().use_hosts_file = ResolveHosts::Always;
            builder.build().ok()
        });
        Self::new(resolver, limits)
    }

    /// These DNS servers, by UDP and TCP; of several any one may be asked.
    #[must_use]
    pub fn of_servers(servers: &[SocketAddr], limits: DnsLimits) -> Self {
        let name_server = |server: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = server.port();
                way
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        };
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        set(builder.options_mut(), &limits);
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Self::new(builder.build().ok(), limits)
    }

    fn new(resolver: Option<TokioResolver>, limits: DnsLimits) -> Self {
        let cache = Cache::new(limits.keeping, limits.entries_max);
        let (under_way, of_each) = (HashMap::new(), HashMap::new());
        let state = Mutex::new(State { cache, under_way, of_tenants: 0, of_each });
        Self(Arc::new(Shared { resolver, limits, state }))
    }

    /// The addresses to try for `hop`, in order (RFC 3263). However many names tenants and their peers name, and
    /// however slow those are, most questions are left to the operator's, and most of theirs to any other of them.
    ///
    /// What came before the time was over is used without the rest.
    ///
    /// # Errors
    /// Why there is none; [`LocateError::DnsFailed`] where it took too long to find one, and
    /// [`LocateError::TooMany`] when DNS was not asked.
    pub async fn locate(
        &self,
        named: Named,
        hop: NextHop,
        rules: Rules,
    ) -> Result<Vec<Target>, LocateError> {
        let (targets, _) = self.find(named, hop, rules).await?;
        Ok(targets)
    }

    /// The same, with what may be missing of them.
    ///
    /// # Errors
    /// As of [`Self::locate`].
    pub async fn find(
        &self,
        named: Named,
        hop: NextHop,
        rules: Rules,
    ) -> Result<(Vec<Target>, Missed), LocateError> {
        let mut search = Locator::new(hop, rules, Random::from_seed(clock::random_u64()))?;
        let mut unasked = false;
        let asking = async {
            loop {
                let questions = search.questions();
                if questions.is_empty() {
                    return;
                }
                let mut waiting = questions.into_iter();
                let first = waiting.by_ref().take(self.at_once(named));
                let mut asked: FuturesUnordered<_> =
                    first.map(|question| self.asked(question, named)).collect();
                while let Some((question, answer)) = asked.next().await {
                    unasked |= answer.is_err();
                    search.answer(&question, answer.unwrap_or(Answer::Failed));
                    // One that is slow holds up none but itself.
                    asked.extend(waiting.next().map(|question| self.asked(question, named)));
                }
            }
        };
        if timeout(self.0.limits.search, asking).await.is_err() {
            while let Some(question) = search.questions().first() {
                search.answer(question, Answer::Failed);
            }
        }
        // What nobody asked says nothing of the name.
        let missed = search.missed();
        let found = search.finish().map(|targets| (targets, missed));
        found.map_err(|error| if unasked { LocateError::TooMany } else { error })
    }

    async fn asked(&self, question: Question, named: Named) -> (Question, Result<Answer, TooMany>) {
        let answer = self.answer_to(&question, named).await;
        (question, answer)
    }

    /// How many questions one search asks at once: a tenant's no more than half of what that may ask, so that a long
    /// list of servers is not cut for want of places.
    fn at_once(&self, named: Named) -> usize {
        match named {
            Named::ByOperator => usize::MAX,
            Named::ByTenant(_) | Named::ByPeer(_) => {
                (self.0.limits.tenant_questions_max / 2).max(1)
            }
        }
    }

    /// The answer to one question: what is known, else what DNS says; what was known, when DNS fails.
    pub async fn ask(&self, question: &Question) -> Answer {
        self.answer_to(question, Named::ByOperator).await.unwrap_or(Answer::Failed)
    }

    async fn answer_to(&self, question: &Question, named: Named) -> Result<Answer, TooMany> {
        let (old, pending) = {
            let mut state = self.state();
            let old = match state.cache.get(clock::now(), question) {
                Known::Fresh(answer) => {
                    metric::count(Counter::DnsAnswers, "known");
                    return Ok(answer);
                }
                Known::Stale(answer) => Some(answer),
                Known::Unknown => None,
            };
            (old, self.pending(&mut state, question, named))
        };
        let Some(mut pending) = pending else {
            metric::count(Counter::DnsAnswers, "too_many");
            return old.ok_or(TooMany);
        };
        let limits = &self.0.limits;
        let wait = if old.is_some() { limits.patience } else { limits.question };
        let answered = timeout(wait, pending.wait_for(Option::is_some)).await;
        let new = match answered {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Answer::Failed),
            Ok(Err(_)) | Err(_) => Answer::Failed,
        };
        Ok(match (new, old) {
            (Answer::Failed, Some(old)) => {
                metric::count(Counter::DnsAnswers, "stale");
                old
            }
            (new, _) => {
                metric::count(Counter::DnsAnswers, word(&new));
                new
            }
        })
    }

    /// How long the answer holds that is known; `None` where none is.
    #[must_use]
    pub fn fresh_until(&self, question: &Question) -> Option<Moment> {
        self.state().cache.fresh_until(question)
    }

    /// The question under way, begun if it is not; `None` when too many are.
    fn pending(
        &self,
        state: &mut State,
        question: &Question,
        named: Named,
    ) -> Option<watch::Receiver<Option<Answer>>> {
        if let Some(pending) = state.under_way.get(question) {
            return Some(pending.clone());
        }
        if !state.take_place(named, &self.0.limits) {
            return None;
        }
        let (done, pending) = watch::channel(None);
        state.under_way.insert(question.clone(), pending.clone());
        let asking = UnderWay { dns: self.clone(), question: question.clone(), named };
        // A task of its own: whoever asked may give up, the answer is kept all the same.
        tokio::spawn(async move {
            let UnderWay { dns, question, .. } = &asking;
            let answer = dns.look_up(question).await;
            dns.state().cache.put(clock::now(), question.clone(), answer.clone());
            drop(asking);
            done.send_replace(Some(answer.0));
        });
        Some(pending)
    }

    /// Asks DNS.
    async fn look_up(&self, question: &Question) -> (Answer, Duration) {
        let failed = (Answer::Failed, Duration::ZERO);
        let Some(resolver) = &self.0.resolver else { return failed };
        let (name, kind) = match question {
            Question::Naptr(name) => (name, RecordType::NAPTR),
            Question::Srv(name) => (name, RecordType::SRV),
            Question::A(name) => (name, RecordType::A),
            Question::Aaaa(name) => (name, RecordType::AAAA),
        };
        #[cfg(test)]
        assert!(!name.starts_with("faulty."), "as a test wants it");
        // With the last dot no search list of this machine is applied.
        let asked = timeout(self.0.limits.question, resolver.lookup(format!("{name}."), kind));
        match asked.await {
            Ok(Ok(found)) => (read(question, &found), ttl(&found)),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                let seconds = none.negative_ttl.unwrap_or(30);
                (Answer::Nothing, Duration::from_secs(seconds.into()))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "DNS failed");
                failed
            }
            Err(_) => failed,
        }
    }

    // No code that can panic runs under the lock, so a poisoned one is still sound.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that is under way until this is dropped, by a fault too: else it could never be asked again.
struct UnderWay {
    dns: Dns,
    question: Question,
    named: Named,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.dns.state();
        state.under_way.remove(&self.question);
        state.give_back_place(self.named);
    }
}

fn set(options: &mut ResolverOpts, limits: &DnsLimits) {
    // Answers are kept here, where old ones can be used while DNS fails.
    options.cache_size = 0;
    options.timeout = limits.question / 2;
    options.attempts = 1;
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Naptr(_) | Answer::Srv(_) | Answer::A(_) | Answer::Aaaa(_) => "answered",
        Answer::Nothing => "nothing",
        Answer::Failed => "failed",
    }
}

fn ttl(found: &Lookup) -> Duration {
    let shortest = found.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(shortest.unwrap_or(0).into())
}

/// The records of the kind asked for; a chain of aliases before them is passed over.
fn read(question: &Question, found: &Lookup) -> Answer {
    let records = || found.answers().iter().map(|record| &record.data);
    let answer = match question {
        Question::Naptr(_) => Answer::Naptr(
            records()
                .filter_map(|data| match data {
                    RData::NAPTR(own) => Some(NaptrRecord {
                        order: own.order,
                        preference: own.preference,
                        flags: String::from_utf8_lossy(&own.flags).into_owned(),
                        service: String::from_utf8_lossy(&own.services).into_owned(),
                        replacement: own.replacement.to_ascii(),
                    }),
                    _ => None,
                })
                .take(LOCATE_RECORDS_MAX)
                .collect(),
        ),
        Question::Srv(_) => Answer::Srv(
            records()
                .filter_map(|data| match data {
                    RData::SRV(own) => Some(SrvRecord {
                        priority: own.priority,
                        weight: own.weight,
                        port: own.port,
                        target: own.target.to_ascii(),
                    }),
                    _ => None,
                })
                .take(LOCATE_RECORDS_MAX)
                .collect(),
        ),
        Question::A(_) => Answer::A(
            records()
                .filter_map(|data| if let RData::A(own) = data { Some(own.0) } else { None })
                .take(LOCATE_RECORDS_MAX)
                .collect(),
        ),
        Question::Aaaa(_) => Answer::Aaaa(
            records()
                .filter_map(|data| if let RData::AAAA(own) = data { Some(own.0) } else { None })
                .take(LOCATE_RECORDS_MAX)
                .collect(),
        ),
    };
    let is_empty = match &answer {
        Answer::Naptr(own) => own.is_empty(),
        Answer::Srv(own) => own.is_empty(),
        Answer::A(own) => own.is_empty(),
        Answer::Aaaa(own) => own.is_empty(),
        Answer::Nothing | Answer::Failed => false,
    };
    if is_empty { Answer::Nothing } else { answer }
}
