//! Routing at 1,000,000 numbers: look-up, whole decision, and one change to a table in use.
#![expect(clippy::expect_used, reason = "a bench that cannot set up should stop")]

use criterion::BatchSize;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use std::hint::black_box;
use tandem::routing::decision::Decision;
use tandem::routing::identify::Attempt;
use tandem::routing::identify::Proof;
use tandem::routing::identify::knows_source;
use tandem::routing::inbound::Verdict;
use tandem::routing::inbound::route;
use tandem::routing::table::AiProfile;
use tandem::routing::table::Change;
use tandem::routing::table::Contents;
use tandem::routing::table::Number;
use tandem::routing::table::RoutingTable;
use tandem::routing::table::Tenant;
use tandem::routing::table::TenantOutbound;
use tandem::routing::table::TenantStatus;
use tandem::routing::table::Trunk;
use tandem::routing::trail::TrailKey;
use tandem::types::agent::AgentKind;
use tandem::types::agent::AgentSettings;
use tandem::types::agent::AnswerPolicy;
use tandem::types::barge_in::BargeIn;
use tandem::types::fault_policy::FaultPolicy;
use tandem::types::id::AiProfileId;
use tandem::types::id::NumberId;
use tandem::types::id::TenantId;
use tandem::types::id::TrunkId;
use tandem::types::name::ListenerName;
use tandem::types::number::E164;
use tandem::types::random::Random;
use tandem::types::transport::Transport;
use uuid::Uuid;

const NUMBERS: u64 = 1_000_000;
const TENANTS: u128 = 50;

fn e164(n: u64) -> E164 {
    format!("+9180{:08}", n * 37 % 100_000_000).parse().expect("a number")
}

fn number(n: u64) -> Number {
    let tenant = u128::from(n) % TENANTS;
    Number {
        id: NumberId::from_uuid(Uuid::from_u128(u128::from(n) + 1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
        first: e164(n),
        last: e164(n),
        trunk: Some(TrunkId::from_uuid(Uuid::from_u128(tenant))),
        outbound_trunk: None,
        routing_profile: None,
        campaign: None,
        ai_profile: None,
        active: true,
        barred: None,
        record: None,
    }
}

/// A million numbers of fifty tenants, each with a trunk, all behind one carrier's addresses.
fn table() -> RoutingTable {
    let mut contents = Contents::default();
    for n in 0..TENANTS {
        let (tenant, profile) = (Uuid::from_u128(n), AiProfileId::from_uuid(Uuid::from_u128(n)));
        contents.tenants.push(Tenant {
            id: TenantId::from_uuid(tenant),
            name: format!("tenant {n}"),
            status: TenantStatus::Active,
            plan: None,
            calls_max: 0,
            cps_max: 0,
            default_profile: Some(profile),
            outbound: TenantOutbound::default(),
            record: Default::default(),
        });
        contents.ai_profiles.push(AiProfile {
            id: profile,
            tenant: TenantId::from_uuid(tenant),
            name: "agent".to_owned(),
            agent: AgentSettings {
                kind: AgentKind::Echo,
                answer: AnswerPolicy::Immediate,
                barge_in: BargeIn::OFF,
                hangup_after: None,
                reinvite_after: None,
                faults: FaultPolicy::USUAL,
                hold_music: None,
            },
            fallback: Vec::new(),
            record: None,
            ask: None,
        });
        let sources = ["54.172.60.0/30", "54.244.51.0/30", "54.171.127.192/30"];
        let sources = sources.iter().map(|net| net.parse().expect("a network")).collect();
        let mut trunk = Trunk::new(TrunkId::from_uuid(tenant), format!("trunk {n}"), sources);
        trunk.tenant = Some(TenantId::from_uuid(tenant));
        contents.trunks.push(trunk);
    }
    contents.numbers = (0..NUMBERS).map(number).collect();
    RoutingTable::new(contents)
}

fn benches(criterion: &mut Criterion) {
    let table = table();
    let mut random = Random::from_seed(1);
    let mut group = criterion.benchmark_group("routing at 1000000 numbers");
    // Any number of the million: the caches hold nothing of it.
    group.bench_function("look-up", |bencher| {
        bencher.iter_batched(
            || e164(random.below(NUMBERS)),
            |dialled| table.number(black_box(dialled)).map(|number| number.active),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("look-up of an unknown number", |bencher| {
        let unknown: E164 = "+15550100".parse().expect("a number");
        bencher.iter(|| table.number(black_box(unknown)).is_none());
    });
    let listener: ListenerName = "public".parse().expect("a name");
    let source = "54.172.60.2".parse().expect("an address");
    group.bench_function("is the source known", |bencher| {
        bencher.iter(|| knows_source(&table, &listener, black_box(source), Transport::Udp));
    });
    let trail_key = TrailKey::default();
    group.bench_function("whole decision, 50 trunks of one source", |bencher| {
        bencher.iter_batched(
            || e164(random.below(NUMBERS)),
            |dialled| {
                let attempt = Attempt {
                    listener: &listener,
                    source,
                    transport: Transport::Udp,
                    certificate: None,
                    own_host: "",
                    request_host: &[],
                    request_user: dialled.as_str().as_bytes(),
                    to_user: dialled.as_str().as_bytes(),
                    diversion_user: &[],
                    called_party_user: &[],
                    caller_user: b"+14155550123",
                    diverted: &[],
                    history: &[],
                    trail_key: &trail_key,
                    header: &|_, _| None,
                    proof: &|_| Proof::Absent,
                };
                let mut decision = Decision::new();
                matches!(route(&table, &attempt, &mut decision), Verdict::Route(_))
            },
            BatchSize::LargeInput,
        );
    });
    // As a shell does it: clone the table in use, change the clone, drop the old one.
    let mut current = table.clone();
    drop(table);
    group.bench_function("clone and change one number", |bencher| {
        bencher.iter_batched(
            || {
                let mut changed = number(random.below(NUMBERS));
                changed.active = random.below(2) == 0;
                changed
            },
            |changed| {
                let mut next = current.clone();
                let done = next.apply(Change::Number(changed)).is_ok();
                current = next;
                done
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(routing, benches);
criterion_main!(routing);
