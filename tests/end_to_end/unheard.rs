//! What bots say while their caller is on hold.

use crate::bot::Bot;
use crate::call_out;
use crate::carrier::shown;
use crate::rows;
use crate::steering::SOUND;
use crate::steering::agree;
use crate::steering::done;
use crate::steering::hears_only;
use crate::transfers::talking;
use serde_json::Value;
use serde_json::json;

/// Bytes of a second of sound.
const SECOND: usize = 8_000;

#[tokio::test]
async fn what_a_bot_says_on_hold_is_told_as_unheard_and_who_takes_over_is_heard_from_its_first_word()
 {
    let (first, second) = (Bot::bind().await, Bot::bind().await);
    let agent = |bot: &Bot| json!({"kind": "twilio", "url": bot.url(), "reconnects": 0});
    let (node, _gateway, key) = call_out::node(agent(&first), json!({})).await;
    let (own, next) = (rows::uuid(2), rows::uuid(5));
    let order = format!(
        "UPDATE ai_profiles SET fallback_profiles = ARRAY['{next}'::uuid] WHERE id = '{own}'"
    );
    node.put(&[rows::profile(5, 1, agent(&second)), order]).await;
    let ((mut phone, _, call), mut stream) = tokio::join!(talking(&node), first.accept());
    stream.say_bytes(&vec![SOUND; 20 * SECOND]).await;
    stream.mark("cut").await;
    hears_only(&phone, SOUND, 20).await;
    done(&node, &key, (&call, "hold"), json!({})).await;
    agree(&phone, "a=sendonly", "a=recvonly").await;
    stream.until_marks(1).await;
    // After a pause it is another utterance.
    stream.hear(50).await;
    stream.say_bytes(&vec![SOUND; SECOND]).await;
    stream.mark("lost").await;
    stream.until_marks(2).await;
    stream.close(1011).await;

    let mut stream = second.accept().await;
    stream.say_bytes(&vec![SOUND; SECOND]).await;
    stream.mark("greeted").await;
    stream.hear(100).await;
    assert!(stream.marks.is_empty(), "it waits for its caller");
    done(&node, &key, (&call, "resume"), json!({})).await;
    agree(&phone, "a=sendrecv", "a=sendrecv").await;
    hears_only(&phone, SOUND, 45).await;
    stream.until_marks(1).await;
    phone.hang_up().await;

    let record = shown(&node, 1, &call, &key).await;
    let events = record["events"].as_array().unwrap();
    let unheard: Vec<&Value> = (events.iter())
        .filter(|event| event["name"] == "unheard")
        .map(|event| &event["detail"])
        .collect();
    let [cut, lost] = unheard[..] else { panic!("{events:?}") };
    let heard_ms = cut["heard_ms"].as_u64().unwrap();
    assert!((400..20_000).contains(&heard_ms), "{cut}");
    assert_eq!((&lost["heard_ms"], &lost["leg"]), (&json!(0), &json!("near")));
    assert!(cut["at_ms"].as_u64() < lost["at_ms"].as_u64(), "{events:?}");
}
