//! What is over its time goes by itself.

use crate::node::Home;
use crate::node::wait_for;
use crate::postgres;
use crate::rows;

#[tokio::test]
async fn calls_that_are_over_their_tenants_time_are_deleted_by_the_node() {
    let mut node = Home::new().start().await;
    // It has looked once, and found nothing.
    wait_for("the node has looked", async || {
        let metrics = node.get("/metrics").await;
        metrics.body.contains("retention_deleted_total{what=\"transcripts\"} 0").then_some(())
    })
    .await;
    let tenant = rows::uuid(1);
    let sql = format!(
        "{}; UPDATE tenants SET keep_calls_days = 7; \
         INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision, \
                            arrived_at, ended_at, cause) \
         SELECT tandem_id_floor(at), 1, '{tenant}', 'inbound', 'x', 'x', 'x', '[]', at, at, 'normal' \
         FROM (VALUES (now() - interval '8 days'), (now() - interval '6 days')) t(at)",
        rows::tenant(1, 0)
    );
    postgres::execute(&node.database(), &sql).await.unwrap();
    // It looks at its start, and then now and then.
    node.signal("TERM");
    assert!(node.ended().await.success());
    node.launch().await;
    wait_for("the old call is gone", async || {
        (node.metric("retention_deleted_total{what=\"calls\"}").await == 1).then_some(())
    })
    .await;
    assert_eq!(node.count("SELECT count(*) FROM calls").await, 1);
}
