//! A listener with a mount point beside one without: what is said behind it, and what of that is heard on either side.

use paloma_interop::broker::{Broker, Setup, paloma, skips_other_brokers};
use paloma_interop::commands::{Commands, Family};
use paloma_interop::peer::Library::Own;
use paloma_interop::peer::{Connect, Incoming, Outgoing, Peer, Properties, Subscription, Version};
use paloma_interop::process::Stream;
use paloma_interop::transport::Endpoint;

/// Ends what one side has heard; behind the mount point it is called by its last level.
const END: &str = "house/end";

const LISTENERS: &str = "\
[[listener]]
name = \"outside\"
address = \"127.0.0.1:0\"
[[listener]]
name = \"house\"
address = \"127.0.0.1:0\"
mount_point = \"house/\"
";

/// A broker, and the version that its clients speak.
struct Site {
    broker: Broker,
    version: Version,
}

impl Site {
    /// A client that sees whole names.
    fn outside(&self) -> Peer {
        Own.peer(self.broker.listener(0), self.version)
    }

    /// A client behind the mount point.
    fn inside(&self) -> Peer {
        Own.peer(self.broker.listener(1), self.version)
    }

    /// One of both, connected and subscribed to everything.
    fn listeners(&self) -> (Peer, Peer) {
        let (mut outside, mut inside) = (self.outside(), self.inside());
        for (peer, id) in [(&mut outside, "outside"), (&mut inside, "inside")] {
            peer.connect(&Connect::clean(id));
            peer.subscribe("#", 2);
        }
        (outside, inside)
    }

    /// What both have heard so far, as whole names outside and short ones inside.
    fn heard(&self, outside: &mut Peer, inside: &mut Peer) -> (Vec<String>, Vec<String>) {
        outside.publish(&Outgoing::new(END, "", 1));
        let without = told(&outside.messages_until(END));
        (without, told(&inside.messages_until("end")))
    }
}

fn broker() -> Broker {
    let setup = Setup {
        configuration: LISTENERS.to_owned(),
        ..Setup::default()
    };
    Broker::of_program(paloma(), &setup)
}

/// Topic, payload, and a mark for what is retained.
fn told(messages: &[Incoming]) -> Vec<String> {
    let one = |message: &Incoming| {
        let payload = String::from_utf8_lossy(&message.payload);
        let mark = if message.retain { " (kept)" } else { "" };
        format!("{} {payload}{mark}", message.topic)
    };
    messages.iter().map(one).collect()
}

/// Plays `scene` in each version before a broker of its own.
fn check(scene: fn(&Site)) {
    if skips_other_brokers("its configuration is another") {
        return;
    }
    for version in Version::ALL {
        let site = Site {
            broker: broker(),
            version,
        };
        scene(&site);
        site.broker.stop();
    }
}

#[test]
fn names_have_the_prefix_outside_and_not_inside() {
    check(|site| {
        let (mut outside, mut inside) = site.listeners();
        for qos in 0..=2 {
            inside.publish(&Outgoing::new("door", format!("{qos} from inside"), qos));
        }
        outside.publish(&Outgoing::new("house/door", "from outside", 1));
        outside.publish(&Outgoing::new("door", "of the street", 1));
        outside.publish(&Outgoing::new("house", "no level below", 1));
        outside.publish(&Outgoing::new("houses/door", "next door", 1));
        inside.publish(&Outgoing::new("house/door", "of a doll's house", 1));
        let (without, within) = site.heard(&mut outside, &mut inside);
        assert_eq!(
            sorted(without),
            sorted([
                "house/door 0 from inside",
                "house/door 1 from inside",
                "house/door 2 from inside",
                "house/door from outside",
                "door of the street",
                "house no level below",
                "houses/door next door",
                "house/house/door of a doll's house",
            ])
        );
        assert_eq!(
            sorted(within),
            sorted([
                "door 0 from inside",
                "door 1 from inside",
                "door 2 from inside",
                "door from outside",
                "house/door of a doll's house",
            ])
        );
    });
}

/// In order of their text: one of QoS 2 is handed over when its exchange ends.
fn sorted(lines: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().map(Into::into).collect();
    lines.sort();
    lines
}

#[test]
fn what_is_retained_on_one_side_greets_the_other_under_its_name_there() {
    check(|site| {
        let mut writer = site.outside();
        writer.connect(&Connect::clean("writer"));
        writer.publish(&Outgoing::new("lamp", "of the street", 1).retained());
        writer.publish(&Outgoing::new("house/lamp", "on", 1).retained());
        let mut tenant = site.inside();
        tenant.connect(&Connect::clean("tenant"));
        tenant.publish(&Outgoing::new("door", "shut", 1).retained());
        tenant.publish(&Outgoing::new("bell", "rang", 1).retained());
        // Each side takes back what the other has said.
        tenant.publish(&Outgoing::new("lamp", "", 1).retained());
        writer.publish(&Outgoing::new("house/bell", "", 1).retained());
        writer.publish(&Outgoing::new("house/stove", "cold", 1).retained());

        let (mut outside, mut inside) = site.listeners();
        let (without, within) = site.heard(&mut outside, &mut inside);
        assert_eq!(
            sorted(without),
            [
                "house/door shut (kept)",
                "house/stove cold (kept)",
                "lamp of the street (kept)"
            ]
        );
        assert_eq!(sorted(within), ["door shut (kept)", "stove cold (kept)"]);
    });
}

#[test]
fn a_will_is_left_behind_the_mount_point_of_its_client() {
    check(|site| {
        let (mut outside, mut inside) = site.listeners();
        let will = |payload: &str| Outgoing::new("gone", payload, 1).retained();
        for (mut mortal, payload) in [(site.inside(), "a tenant"), (site.outside(), "a stranger")] {
            mortal.connect(&Connect::clean("mortal").with_will(will(payload)));
            mortal.cut();
            let message = outside.message();
            assert_eq!(message.payload, payload.as_bytes());
            let expected = if payload == "a tenant" {
                "house/gone"
            } else {
                "gone"
            };
            assert_eq!(message.topic, expected);
        }
        let (without, within) = site.heard(&mut outside, &mut inside);
        assert_eq!(without, [""; 0], "each will came once");
        assert_eq!(
            within,
            ["gone a tenant"],
            "and the stranger's is not theirs"
        );

        let mut late = site.inside();
        late.connect(&Connect::clean("late"));
        late.subscribe("+", 1);
        assert_eq!(told(&[late.message()]), ["gone a tenant (kept)"]);
        outside.publish(&Outgoing::new(END, "", 1));
        assert_eq!(late.messages_until("end"), []);
    });
}

#[test]
fn a_session_keeps_short_names_while_its_client_is_away() {
    check(|site| {
        let mut sleeper = site.inside();
        sleeper.connect(&Connect::persistent("sleeper"));
        sleeper.subscribe("door", 1);
        sleeper.subscribe("end", 1);
        sleeper.disconnect();
        site.broker.await_departure("sleeper", 1);
        let mut writer = site.outside();
        writer.connect(&Connect::clean("writer"));
        writer.publish(&Outgoing::new("door", "of the street", 1));
        writer.publish(&Outgoing::new("house/door", "opened", 1));
        writer.publish(&Outgoing::new(END, "", 1));
        let mut sleeper = site.inside();
        assert!(sleeper.connect(&Connect::persistent("sleeper")));
        assert_eq!(told(&sleeper.messages_until("end")), ["door opened"]);
    });
}

#[test]
fn requests_and_their_answers_cross_the_mount_point() {
    check(|site| {
        if site.version == Version::V311 {
            return;
        }
        let mut tenant = site.inside();
        tenant.connect(&Connect::clean("tenant"));
        tenant.subscribe("answers", 1);
        let mut porter = site.outside();
        porter.connect(&Connect::clean("porter"));
        porter.subscribe("house/questions", 1);
        let question = Outgoing::new("questions", "?", 1).with(Properties {
            response_topic: Some("answers".to_owned()),
            ..Properties::default()
        });
        tenant.publish(&question);
        let asked = porter.message().properties.response_topic.unwrap();
        assert_eq!(asked, "house/answers");
        porter.publish(&Outgoing::new(&asked, "!", 1));
        assert_eq!(told(&[tenant.message()]), ["answers !"]);
    });
}

#[test]
fn the_brokers_own_topics_are_not_behind_the_mount_point() {
    check(|site| {
        let mut tenant = site.inside();
        tenant.connect(&Connect::clean("tenant"));
        let answer = tenant.subscribe_as(&Subscription::new("$SYS/#", 0));
        let refused = match site.version {
            Version::V311 => 0x80,
            Version::V5 => 0x87,
        };
        assert_eq!(answer, [refused]);
    });
}

/// The same with the commands that people try a mount point with.
fn commands_before_either_listener_see_its_names(family: Family) {
    if skips_other_brokers("its configuration is another") {
        return;
    }
    let broker = broker();
    let commands = |number| Commands::find(family, &Endpoint::tcp(broker.listener(number)));
    if let (Some(outside), Some(inside)) = (commands(0), commands(1)) {
        inside.publish(&["-t", "state", "-m", "kept", "-r", "-q", "1"]);
        let greeting = outside.collect(&["-t", "house/state", "-v", "-C", "1"]);
        assert_eq!(greeting, (vec!["house/state kept".to_owned()], Some(0)));
        // The mark of readiness is counted too.
        let mut without = outside.subscribe(&[
            "-t",
            "house/gone",
            "-t",
            "house/door",
            "-v",
            "-q",
            "1",
            "-C",
            "4",
        ]);
        let mut within =
            inside.subscribe(&["-t", "gone", "-t", "door", "-v", "-q", "1", "-C", "4"]);
        let mut mortal = inside.subscribe(&[
            "-t",
            "nothing",
            "--will-topic",
            "gone",
            "--will-payload",
            "mortal",
            "--will-qos",
            "1",
        ]);
        mortal.kill();
        within.find_line("the will", |line| (line == "gone mortal").then_some(()));
        outside.publish(&["-t", "house/door", "-m", "outside", "-q", "1"]);
        outside.publish(&["-t", "door", "-m", "street", "-q", "1"]);
        inside.publish(&["-t", "door", "-m", "inside", "-q", "1"]);
        assert_eq!(within.rest_of(Stream::Out), ["door outside", "door inside"]);
        assert_eq!(
            without.rest_of(Stream::Out),
            [
                "house/gone mortal",
                "house/door outside",
                "house/door inside"
            ]
        );
    }
    broker.stop();
}

#[test]
fn mosquittos_commands_before_either_listener_see_its_names() {
    commands_before_either_listener_see_its_names(Family::Mosquitto);
}

#[test]
fn palomas_commands_before_either_listener_see_its_names() {
    commands_before_either_listener_see_its_names(Family::Paloma);
}
