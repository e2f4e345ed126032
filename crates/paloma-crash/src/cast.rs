//! Who takes part in a run: a function of its seed.

use paloma_interop::peer::Version;
use paloma_interop::random::Random;

/// What a stream's messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ordinary messages.
    Plain,
    /// Successive values of one retained topic; see [`is_deletion`].
    Retained,
    /// Wills of successive connections.
    Will,
}

/// One publisher's topic at one QoS.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Index of the publisher.
    pub publisher: u16,
    /// The topic.
    pub topic: String,
    /// 1 or 2.
    pub qos: u8,
    /// What goes over it.
    pub kind: Kind,
    /// Message Expiry Interval in seconds.
    pub lifetime_seconds: Option<u32>,
}

/// Half an hour: over when the clock is put forward by an hour.
pub const LIFETIME_SHORT: u32 = 1_800;

/// Thirty days, which is as long as sessions last here: never over in a run.
pub const LIFETIME_LONG: u32 = 2_592_000;

/// A filter that a subscriber has, or has now and then.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The filter.
    pub filter: String,
    /// 1 or 2.
    pub qos: u8,
    /// Whether it comes and goes.
    pub is_fickle: bool,
}

/// A subscriber.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its version of the protocol.
    pub version: Version,
    /// Receive Maximum; 65,535 is not said.
    pub receive_maximum: u16,
    /// What it wants.
    pub filters: Vec<Filter>,
    /// Acknowledges only now and then.
    pub is_lazy: bool,
    /// Starts anew now and then.
    pub wipes: bool,
}

/// A publisher.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Its version of the protocol.
    pub version: Version,
    /// Most messages unacknowledged.
    pub window: usize,
    /// Indexes of its streams of messages.
    pub streams: Vec<u16>,
    /// Index of the stream of its wills.
    pub will: Option<u16>,
}

/// How many take part.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Publishers.
    pub publishers: u16,
    /// Durable subscribers; the first has everything.
    pub subscribers: u16,
    /// Most bytes of a payload.
    pub payload_bytes_max: usize,
}

impl Size {
    /// That of the crash harness.
    pub const FULL: Self = Self {
        publishers: 50,
        subscribers: 20,
        payload_bytes_max: 20_000,
    };

    /// One for thousands of runs.
    pub const SMALL: Self = Self {
        publishers: 4,
        subscribers: 4,
        payload_bytes_max: 2_000,
    };
}

/// Retained topics of a publisher that has any.
const KEPT: u16 = 8;

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Every stream.
    pub streams: Vec<Stream>,
    /// Every publisher.
    pub publishers: Vec<Publisher>,
    /// Every subscriber.
    pub subscribers: Vec<Subscriber>,
    /// Most bytes of a payload.
    pub payload_bytes_max: usize,
}

/// Whether the retained stream's message of this number is an empty one, which deletes.
#[must_use]
pub fn is_deletion(number: u32) -> bool {
    number % 7 == 6
}

impl Cast {
    /// The clients of a seed.
    #[must_use]
    pub fn new(seed: u64, size: Size) -> Self {
        let mut random = Random::new(seed);
        let mut streams = Vec::new();
        let publishers = (0..size.publishers)
            .map(|index| publisher(index, &mut streams, &mut random))
            .collect();
        let subscribers = (0..size.subscribers)
            .map(|index| subscriber(index, size, &mut random))
            .collect();
        Self {
            streams,
            publishers,
            subscribers,
            payload_bytes_max: size.payload_bytes_max,
        }
    }

    /// Streams whose topic a filter matches.
    #[must_use]
    pub fn matches(&self, filter: &str, stream: u16) -> bool {
        matches(filter, &self.streams[usize::from(stream)].topic)
    }
}

fn publisher(index: u16, streams: &mut Vec<Stream>, random: &mut Random) -> Publisher {
    let mut add = |topic: String, qos, kind| {
        streams.push(Stream {
            publisher: index,
            topic,
            qos,
            kind,
            lifetime_seconds: None,
        });
        (streams.len() - 1) as u16
    };
    let mut own = vec![
        add(format!("load/{index}/one"), 1, Kind::Plain),
        add(format!("load/{index}/two"), 2, Kind::Plain),
    ];
    if index.is_multiple_of(3) {
        let qos = 1 + (index / 3 % 2) as u8;
        own.push(add(format!("kept/{index}"), qos, Kind::Retained));
        own.extend((1..KEPT).map(|number| {
            let qos = 1 + (number % 2) as u8;
            add(format!("kept/{index}/{number}"), qos, Kind::Retained)
        }));
    }
    let will = (index % 4 == 1).then(|| add(format!("will/{index}"), 2, Kind::Will));
    let version = *random.one_of(&Version::ALL);
    if version == Version::V5 {
        for number in &own {
            let stream = &mut streams[usize::from(*number)];
            stream.lifetime_seconds = lifetime(stream.kind, index + number);
        }
    }
    Publisher {
        version,
        window: *random.one_of(&[1, 2, 5, 16]),
        streams: own,
        will,
    }
}

/// What is retained outlives a run, so that it has to be found at its end.
fn lifetime(kind: Kind, number: u16) -> Option<u32> {
    match (kind, number % 3) {
        (Kind::Plain, 0) => Some(LIFETIME_SHORT),
        (Kind::Plain | Kind::Retained, 1) => Some(LIFETIME_LONG),
        (Kind::Plain | Kind::Retained | Kind::Will, _) => None,
    }
}

fn subscriber(index: u16, size: Size, random: &mut Random) -> Subscriber {
    let publishers = size.publishers;
    let version = Version::ALL[usize::from(index % 2)];
    let filter = |filter: &str, qos| Filter {
        filter: filter.to_owned(),
        qos,
        is_fickle: false,
    };
    let someone = |random: &mut Random| random.between(0, usize::from(publishers));
    let mut filters = match index {
        // Everything at QoS 2, wills and retained traffic too.
        0 => vec![
            filter("load/#", 2),
            filter("will/+", 2),
            filter("kept/#", 1),
        ],
        1 => vec![filter("load/#", 1), filter("will/#", 2)],
        2 => vec![filter("load/+/two", 2)],
        3 => vec![filter("load/+/one", 2), filter("load/+/two", 1)],
        _ => {
            let first = someone(random);
            // Neighbours, so that no filter is there twice.
            (0..3.min(publishers))
                .map(|step| {
                    let one = (first + usize::from(step)) % usize::from(publishers);
                    filter(&format!("load/{one}/#"), *random.one_of(&[1, 2]))
                })
                .collect()
        }
    };
    let is_fickle = index % 3 == 2;
    if is_fickle {
        filters.push(Filter {
            filter: format!("load/{}/+", someone(random)),
            qos: 2,
            is_fickle: true,
        });
    }
    let is_lazy = index % 5 == 3;
    if is_fickle || is_lazy {
        filters.push(Filter {
            filter: "kept/#".to_owned(),
            qos: *random.one_of(&[1, 2]),
            is_fickle: true,
        });
    }
    Subscriber {
        version,
        receive_maximum: match version {
            Version::V311 => u16::MAX,
            Version::V5 => *random.one_of(&[1, 2, 10, 100, u16::MAX]),
        },
        filters,
        is_lazy,
        wipes: index % 7 == 6 || index + 1 == size.subscribers,
    }
}

/// Whether the filter matches, by the standard's words: the clients share no code with the broker.
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            (_, Some(_)) => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("load/#", "load/1/one", true),
            ("load/#", "load", true),
            ("load/+/one", "load/1/one", true),
            ("load/+/one", "load/1/two", false),
            ("load/1/+", "load/1/one", true),
            ("load/+", "load/1/one", false),
            ("kept/1", "kept/12", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_cast_and_covers_both_versions() {
        let one = format!("{:?}", Cast::new(3, Size::FULL));
        assert_eq!(one, format!("{:?}", Cast::new(3, Size::FULL)));
        assert!(one.contains("V311") && one.contains("V5"));
        assert!(one.contains("Retained") && one.contains("Will"));
    }
}
