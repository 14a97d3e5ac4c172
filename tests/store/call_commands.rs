//! Commands on their way between nodes: sealed where there is a key, and opened by who has it alone.

use crate::postgres;
use crate::rows;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tandem::clock;
use tandem::store::api_keys::KeyHolder;
use tandem::store::api_keys::KeyRole;
use tandem::store::api_keys::KeyScope;
use tandem::store::call_commands;
use tandem::store::call_commands::CallCommand;
use tandem::store::call_commands::CommandAnswer;
use tandem::store::call_commands::Progress;
use tandem::store::call_commands::TakenCommand;
use tandem::store::seal::Sealer;
use tandem::types::id::ApiKeyId;
use tandem::types::id::TenantId;
use tandem::types::secret::Secret;

fn sealer(byte: u8) -> Sealer {
    Sealer::new([&Secret::new(STANDARD.encode([byte; 32]))]).unwrap()
}

fn command(tenant: TenantId) -> CallCommand {
    CallCommand {
        tenant,
        call: clock::new_call_id(),
        path: "/x".to_owned(),
        kind: Some("application/json".to_owned()),
        body: b"4711".to_vec(),
        credentials: Some(Secret::new("Basic x".to_owned())),
        holder: KeyHolder {
            id: ApiKeyId::from_uuid(clock::new_uuid()),
            scope: KeyScope::Tenant(tenant),
            role: KeyRole::Operator,
        },
        request_id: "of this request".to_owned(),
    }
}

#[tokio::test]
async fn a_command_and_its_answer_are_opened_by_the_key_of_the_nodes_alone() {
    let database = postgres::database().await;
    let tenant = rows::tenant(&database, "a").await;
    let (own, strange, none) = (sealer(1), sealer(2), Sealer::default());
    let body = b"{\"n\": 1}".to_vec();
    let answered = CommandAnswer { status: 503, retry_after_s: Some(30), body };
    for (asks, takes, opened) in [
        (&own, &own, Some(true)),
        (&own, &strange, None),
        (&own, &none, None),
        (&none, &own, Some(false)),
        (&none, &none, Some(false)),
    ] {
        let asked = command(tenant);
        let id = call_commands::ask(&database, asks, &asked).await.unwrap();
        let clear = "SELECT count(*) FROM call_commands WHERE body = '4711' OR sealed_credentials LIKE '%Basic%'";
        let is_clear = postgres::count(&database, clear).await;
        assert_eq!(is_clear == 0, std::ptr::eq(asks, &own));
        let node = clock::new_node_id();
        let key = (tenant, asked.call);
        let mut taken = call_commands::take(&database, takes, node, key).await.unwrap();
        assert_eq!(taken.len(), 1);
        let TakenCommand { command, is_sealed, request_id, .. } = taken.remove(0);
        assert_eq!(request_id, asked.request_id);
        // Without a key the credentials stay where they are.
        let expected = opened.map(|with_credentials| CallCommand {
            credentials: asked.credentials.clone().filter(|_| with_credentials),
            ..asked.clone()
        });
        assert_eq!(command, expected);
        assert_eq!(call_commands::take(&database, takes, node, key).await.unwrap(), []);
        call_commands::answer(&database, takes, (id, is_sealed), &answered).await.unwrap();
        let told = call_commands::progress(&database, asks, id).await.unwrap();
        let readable = opened.is_some() || std::ptr::eq(takes, &none);
        let expected = if readable { Progress::Answered(answered.clone()) } else { Progress::Lost };
        assert_eq!(told, expected);
        call_commands::forget(&database, id).await.unwrap();
    }
}
