//! A home automation's day through the real binary: nothing that a dashboard must know is missing.

#![allow(
    clippy::indexing_slicing,
    reason = "devices are named by their position"
)]

use std::collections::BTreeMap;

use paloma_interop::broker::{Broker, skips_other_brokers};
use paloma_interop::home::{Day, Device, Message, Step, retained};
use paloma_interop::peer::Version;
use paloma_interop::raw::{Publish, RawClient};
use paloma_interop::wire::{self, Connect, PUBACK};

/// Ends a part of the day for the dashboard.
const MARK: &str = "dashboard/mark";

/// Topic → payloads in the order in which they were published or received.
type Log = BTreeMap<String, Vec<Vec<u8>>>;

/// The house: its broker, whoever is connected, and what the dashboard must come to know.
struct House {
    broker: Broker,
    hub: RawClient,
    devices: Vec<Device>,
    connected: Vec<Option<RawClient>>,
    dashboard: Option<RawClient>,
    /// The newest retained payload of each topic.
    retained: BTreeMap<String, Vec<u8>>,
    /// All that was published at QoS 1 or 2 since the dashboard subscribed.
    published: Log,
    /// All that the dashboard has received at QoS 1 since then.
    received: Log,
}

impl House {
    fn new(day: &Day) -> Self {
        let broker = Broker::start();
        let hub = RawClient::connect(broker.address(), Version::V5, "hub");
        Self {
            hub,
            devices: day.devices.clone(),
            connected: day.devices.iter().map(|_| None).collect(),
            dashboard: None,
            retained: BTreeMap::new(),
            published: Log::new(),
            received: Log::new(),
            broker,
        }
    }

    /// Notes what was published, as the broker must remember it.
    fn note(&mut self, message: &Message) {
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained
                .insert(message.topic.clone(), message.payload.clone());
        }
        if message.qos > 0 {
            let log = self.published.entry(message.topic.clone()).or_default();
            log.push(message.payload.clone());
        }
    }

    fn hub_announces(&mut self, message: &Message) {
        publish(&mut self.hub, message);
        self.note(message);
    }

    fn arrives(&mut self, number: usize) {
        let device = self.devices[number].clone();
        // Half of the devices are old.
        let version = Version::ALL[number % 2];
        let mut connect = Connect::persistent(version, &device.name).with_will(
            &device.availability,
            "offline",
            1,
        );
        // Will Retain.
        connect.flags |= 0x20;
        let (mut client, _) = RawClient::connect_as(self.broker.address(), version, &connect);
        let online = retained(&device.availability, "online");
        publish(&mut client, &online);
        self.connected[number] = Some(client);
        self.note(&online);
    }

    fn vanishes(&mut self, number: usize) {
        let client = self.connected[number]
            .take()
            .expect("only who is connected vanishes");
        client.leave();
        let offline = retained(&self.devices[number].availability, "offline");
        self.note(&offline);
    }

    fn dashboard_returns(&mut self) {
        let connect = Connect::persistent(Version::V5, "dashboard");
        let (client, present) = RawClient::connect_as(self.broker.address(), Version::V5, &connect);
        assert!(present, "the dashboard's session is resumed");
        self.dashboard = Some(client);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Arrives(number) => self.arrives(number),
            Step::Vanishes(number) => self.vanishes(number),
            Step::Reports(number, message) => {
                let client = self.connected[number]
                    .as_mut()
                    .expect("only who is connected reports");
                publish(client, &message);
                self.note(&message);
            }
            Step::Announces(message) => self.hub_announces(&message),
            Step::DashboardLeaves => {
                self.dashboard.take().expect("leaves once").leave();
            }
            Step::DashboardReturns => self.dashboard_returns(),
        }
    }

    /// Lets the dashboard read all that was published so far.
    fn catch_up(&mut self) {
        let mark = Message {
            retain: false,
            ..retained(MARK, "")
        };
        publish(&mut self.hub, &mark);
        let dashboard = self
            .dashboard
            .as_mut()
            .expect("present at the end of each part");
        loop {
            let Publish {
                topic,
                payload,
                qos,
                dup,
                retain,
                ..
            } = dashboard.message();
            if topic == MARK {
                return;
            }
            assert!(!retain, "{topic} is no greeting");
            let log = self.received.entry(topic).or_default();
            // A repeated message may be one whose acknowledgement was lost with the connection.
            if qos > 0 && !(dup && log.last() == Some(&payload)) {
                log.push(payload);
            }
        }
    }
}

/// Publishes at the message's QoS, and waits until the exchange is complete.
fn publish(client: &mut RawClient, message: &Message) {
    let version = client.version();
    let first = 0x30 | message.qos << 1 | u8::from(message.retain);
    let block = wire::empty_properties(version);
    client.send(&wire::publish_with(
        &block,
        first,
        1,
        message.topic.as_bytes(),
        &message.payload,
    ));
    match message.qos {
        0 => client.ping(),
        1 => client.skip_to(PUBACK, 1),
        _ => {
            client.skip_to(wire::PUBREC, 1);
            client.send(&wire::ack(wire::PUBREL, 1));
            client.skip_to(wire::PUBCOMP, 1);
        }
    }
}

/// What a new client that subscribes to everything is greeted with.
fn greetings(house: &mut House, client: &mut RawClient) -> BTreeMap<String, Vec<u8>> {
    client.send(&wire::subscribe(client.version(), 1, &[("#", 1)]));
    let expected = house.retained.len();
    let mut greetings = BTreeMap::new();
    while greetings.len() < expected {
        let message = client.message();
        assert!(message.retain, "{message:?}");
        let earlier = greetings.insert(message.topic, message.payload);
        assert_eq!(earlier, None, "each greeting comes once");
    }
    greetings
}

#[test]
fn a_day_with_400_devices_is_complete() {
    if skips_other_brokers("it greets with no more than it queues") {
        return;
    }
    let day = Day::new(2_026, 400, 12, 400);
    let mut house = House::new(&day);
    assert!(
        day.discovery.len() >= 3_000,
        "thousands of discovery topics"
    );
    for message in &day.discovery {
        house.hub_announces(message);
    }
    for number in 0..day.devices.len() {
        house.arrives(number);
    }
    let connect = Connect::persistent(Version::V5, "dashboard");
    let (mut dashboard, _) = RawClient::connect_as(house.broker.address(), Version::V5, &connect);
    let greetings_in_the_morning = greetings(&mut house, &mut dashboard);
    assert!(
        greetings_in_the_morning == house.retained,
        "all that was retained, and nothing else"
    );
    house.published.clear();
    house.dashboard = Some(dashboard);

    for part in day.parts {
        for step in part {
            house.step(step);
        }
        house.catch_up();
    }
    house.received.retain(|_, payloads| !payloads.is_empty());
    for (topic, published) in &house.published {
        assert_eq!(house.received.get(topic), Some(published), "{topic}");
    }
    assert_eq!(
        house.received.len(),
        house.published.len(),
        "and nothing that nobody published"
    );

    let mut newcomer = RawClient::connect(house.broker.address(), Version::V311, "newcomer");
    let greetings_in_the_evening = greetings(&mut house, &mut newcomer);
    assert!(
        greetings_in_the_evening == house.retained,
        "the evening's state is complete"
    );
    let messages: usize = house.published.values().map(Vec::len).sum();
    eprintln!(
        "{} greetings, {messages} messages",
        greetings_in_the_evening.len()
    );
    drop(newcomer);
    house.broker.stop();
}
