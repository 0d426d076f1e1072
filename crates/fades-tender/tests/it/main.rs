//! Real images in real tenders, on every isolation that this host has.

mod tending;

use fades_task::limits::Isolation;
use fades_task::message::Feed;
use serde_json::json;
use tending::{Tending, batch, start};

#[test]
fn hello_greets_on_every_isolation() {
    let image =
        std::path::PathBuf::from(std::env::var_os("FADES_IMAGES").unwrap()).join("hello.fades");
    for isolation in [Isolation::Process, Isolation::Microvm] {
        let tending = Tending::begin(&image, &start(isolation), &json!({}));
        tending.feed_batch(&batch(0, &[1.0, 2.0, 3.0]));
        tending.feed(&Feed::End { dto: 0 });
        tending.feed(&Feed::Finish);
        let outcome = tending.outcome();
        assert_eq!(
            outcome.answer(),
            json!({"greeting": "hello, world", "rows": 3})
        );
    }
}
