//! A day in a home automation, made from a seed: what its devices and its hub do, and what a dashboard must know of it.

use crate::random::Random;

/// Entities that a device may have, with a unit.
const ENTITIES: [(&str, &str); 8] = [
    ("temperature", "°C"),
    ("humidity", "%"),
    ("battery", "%"),
    ("illuminance", "lx"),
    ("power", "W"),
    ("energy", "kWh"),
    ("linkquality", "lqi"),
    ("update", ""),
];

/// Rooms that a device may stand in.
const ROOMS: [&str; 8] = [
    "kitchen",
    "bath",
    "hall",
    "cellar",
    "garden",
    "küche-süd",
    "attic",
    "study",
];

/// A device that reports its state, and is watched by its will.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name, which is its client identifier too.
    pub name: String,
    /// Where it reports its state.
    pub state: String,
    /// Where it says `online`, and its will says `offline`; retained.
    pub availability: String,
}

/// A message that somebody publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
}

/// One thing that happens; devices are named by their position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A device connects, and says that it is online.
    Arrives(usize),
    /// A device loses its connection, and its will says that it is offline.
    Vanishes(usize),
    /// A connected device publishes.
    Reports(usize, Message),
    /// The hub publishes.
    Announces(Message),
    /// The dashboard loses its connection.
    DashboardLeaves,
    /// The dashboard resumes its session.
    DashboardReturns,
}

/// The whole day.
#[derive(Debug)]
pub struct Day {
    /// The devices.
    pub devices: Vec<Device>,
    /// What the hub has announced before anybody connects: retained discovery messages.
    pub discovery: Vec<Message>,
    /// What happens, in parts small enough for a dashboard's queue while it is away.
    pub parts: Vec<Vec<Step>>,
}

/// A message retained at QoS 1.
#[must_use]
pub fn retained(topic: &str, payload: &str) -> Message {
    Message {
        topic: topic.to_owned(),
        payload: payload.as_bytes().to_vec(),
        qos: 1,
        retain: true,
    }
}

impl Day {
    /// The day of `seed` with so many devices, `parts` parts and `steps` steps in each.
    #[must_use]
    pub fn new(seed: u64, devices: usize, parts: usize, steps: usize) -> Self {
        let mut random = Random::new(seed);
        let devices: Vec<Device> = (0..devices)
            .map(|number| {
                let name = format!("{}-{number:03}", random.one_of(&ROOMS));
                let state = format!("zigbee/{name}");
                let availability = format!("{state}/availability");
                Device {
                    name,
                    state,
                    availability,
                }
            })
            .collect();
        let discovery = devices.iter().flat_map(discovery_of).collect();
        let mut connected = vec![true; devices.len()];
        let mut counter = 0;
        let parts = (0..parts)
            .map(|part| {
                let mut happening = Happening {
                    random: &mut random,
                    devices: &devices,
                    counter,
                };
                let steps = happening.part(part, steps, &mut connected);
                counter = happening.counter;
                steps
            })
            .collect();
        Self {
            devices,
            discovery,
            parts,
        }
    }
}

fn discovery_of(device: &Device) -> Vec<Message> {
    ENTITIES
        .iter()
        .map(|(entity, unit)| discovery(device, entity, unit, 1))
        .collect()
}

fn discovery(device: &Device, entity: &str, unit: &str, revision: usize) -> Message {
    let Device {
        name,
        state,
        availability,
    } = device;
    let topic = format!("homeassistant/sensor/{name}/{entity}/config");
    let payload = format!(
        r#"{{"name":"{entity}","unique_id":"{name}_{entity}","state_topic":"{state}","unit_of_measurement":"{unit}","value_template":"{{{{ value_json.{entity} }}}}","availability":[{{"topic":"{availability}"}}],"device":{{"identifiers":["{name}"],"name":"{name}","sw_version":"{revision}"}}}}"#
    );
    retained(&topic, &payload)
}

/// Makes the steps of one part.
struct Happening<'a> {
    random: &'a mut Random,
    devices: &'a [Device],
    counter: usize,
}

impl Happening<'_> {
    fn part(&mut self, part: usize, steps: usize, connected: &mut [bool]) -> Vec<Step> {
        let mut happened = Vec::new();
        let dashboard_leaves = part % 3 == 1;
        if dashboard_leaves {
            happened.push(Step::DashboardLeaves);
        }
        for _ in 0..steps {
            let device = self.random.between(0, self.devices.len());
            happened.push(match (self.random.between(0, 100), connected[device]) {
                (0..8, true) => {
                    connected[device] = false;
                    Step::Vanishes(device)
                }
                (_, false) => {
                    connected[device] = true;
                    Step::Arrives(device)
                }
                (8..14, true) => Step::Announces(self.announcement(device)),
                (_, true) => Step::Reports(device, self.report(device)),
            });
        }
        if dashboard_leaves {
            happened.push(Step::DashboardReturns);
        }
        happened
    }

    /// A new revision of an entity's discovery, or its end.
    fn announcement(&mut self, device: usize) -> Message {
        self.counter += 1;
        let (entity, unit) = *self.random.one_of(&ENTITIES);
        let mut message = discovery(&self.devices[device], entity, unit, self.counter);
        if self.random.between(0, 4) == 0 {
            message.payload.clear();
        }
        message
    }

    /// A device's state, every fourth retained, every eighth a sample that nobody minds to miss.
    fn report(&mut self, device: usize) -> Message {
        self.counter += 1;
        let counter = self.counter;
        let temperature = self.random.between(150, 300);
        let payload = format!(
            r#"{{"counter":{counter},"temperature":{}.{},"battery":97,"linkquality":{}}}"#,
            temperature / 10,
            temperature % 10,
            self.random.between(0, 255),
        );
        let state = &self.devices[device].state;
        match self.random.between(0, 8) {
            0 => Message {
                qos: 0,
                retain: false,
                ..retained(&format!("{state}/sample"), &payload)
            },
            1 | 2 => retained(state, &payload),
            3 => Message {
                qos: 2,
                retain: false,
                ..retained(state, &payload)
            },
            _ => Message {
                retain: false,
                ..retained(state, &payload)
            },
        }
    }
}
