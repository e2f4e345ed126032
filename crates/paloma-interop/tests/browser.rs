//! MQTT.js in a web page, before the real binary's WebSocket listeners.

use paloma_interop::broker::{Broker, Setup, paloma, skips_other_brokers};
use paloma_interop::pages::Pages;
use paloma_interop::tools::Tool;
use serde_json::{Value, json};

/// What a page receives that the broker lets in, sorted.
fn everything() -> Value {
    json!([
        "page/0 grüße at 0",
        "page/1 grüße at 1",
        "page/2 grüße at 2",
        "page/large 200000 at 1",
        "page/will gone at 1",
    ])
}

#[test]
fn a_page_speaks_with_the_broker_if_its_origin_may() {
    if skips_other_brokers("it knows nothing of origins") {
        return;
    }
    let (Some(browser), Some(pages)) = (Tool::Chromium.find(), Pages::start()) else {
        return;
    };
    let foreign = pages.origin("localhost");
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"websocket\"\n";
    let setup = Setup {
        // The first has the default: pages of the broker's own host. The second has a list.
        configuration: format!(
            "{listener}name = \"own\"\n{listener}name = \"listed\"\n\
             [listener.websocket]\norigins = [\"{foreign}\"]\n"
        ),
        ..Setup::default()
    };
    let broker = Broker::of_program(paloma(), &setup);
    let [own, listed] = [0, 1].map(|place| format!("ws://{}/mqtt", broker.listener(place)));
    let outcomes = pages.open(
        &browser,
        &[
            ("127.0.0.1", own.clone()),
            ("localhost", own),
            ("localhost", listed.clone()),
            ("127.0.0.1", listed),
        ],
    );
    for (outcome, is_let_in) in outcomes.iter().zip([true, false, true, false]) {
        let expected = if is_let_in {
            everything()
        } else {
            json!("refused")
        };
        for version in ["v311", "v5"] {
            assert_eq!(outcome[version], expected, "{outcome}");
        }
    }
    broker.stop();
}
