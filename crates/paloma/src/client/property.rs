//! The properties of `-D command identifier value`, as mosquitto's clients have them.

use std::ffi::OsString;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

/// Everything that `-D` can add, by packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) connect: ConnectProperties,
    pub(crate) publish: MessageProperties,
    pub(crate) will: MessageProperties,
    pub(crate) will_delay_seconds: Option<u32>,
    pub(crate) subscription_id: Option<NonZeroU32>,
    pub(crate) subscribe_user: Pairs,
    pub(crate) unsubscribe_user: Pairs,
    pub(crate) disconnect_expiry_seconds: Option<u32>,
    pub(crate) disconnect_user: Pairs,
}

/// User properties, in their order.
pub(crate) type Pairs = Vec<(String, String)>;

/// What a CONNECT can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectProperties {
    pub(crate) session_expiry_seconds: Option<u32>,
    pub(crate) receive_maximum: Option<NonZeroU16>,
    pub(crate) packet_bytes_max: Option<NonZeroU32>,
    pub(crate) topic_alias_maximum: Option<u16>,
    pub(crate) request_response_information: Option<bool>,
    pub(crate) request_problem_information: Option<bool>,
    pub(crate) user: Pairs,
}

/// What a PUBLISH or a will can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageProperties {
    pub(crate) is_text: Option<bool>,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation_data: Option<Vec<u8>>,
    pub(crate) user: Pairs,
}

/// What is wrong with a `-D`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PropertyError {
    /// Fewer words than the property needs.
    Missing,
    /// Not UTF-8.
    NotText,
    /// No such packet.
    Command(String),
    /// No such property, or not in this packet.
    Property { command: String, property: String },
    /// Given twice, where once is possible.
    Twice(String),
    /// A number out of its range, or no number at all.
    Value { property: String, value: String },
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("-D given but not enough arguments specified"),
            Self::NotText => f.write_str("-D given with text that is not UTF-8"),
            Self::Command(command) => write!(
                f,
                "-D `{command}` is not one of connect, publish, subscribe, unsubscribe, \
                 disconnect, will"
            ),
            Self::Property { command, property } => {
                write!(f, "-D {command} has no property `{property}`")
            }
            Self::Twice(property) => write!(f, "-D {property} is given twice"),
            Self::Value { property, value } => {
                write!(f, "-D {property}: `{value}` is not a possible value")
            }
        }
    }
}

/// Takes every `-D` with its words out of the arguments.
///
/// How many words follow depends on the second, which no general parser of command lines knows.
/// `takes_value` says whether an option is followed by a value, which may itself look like `-D`.
///
/// # Errors
/// A `-D` that cannot be understood.
pub(crate) fn take_properties(
    arguments: impl IntoIterator<Item = OsString>,
    takes_value: impl Fn(&str) -> bool,
) -> Result<(Vec<OsString>, Option<Properties>), PropertyError> {
    let mut rest = Vec::new();
    let mut properties = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let option = argument.to_str().unwrap_or("");
        if option == "-D" || option == "--property" {
            let mut word = || {
                let word = arguments.next().ok_or(PropertyError::Missing)?;
                word.into_string().map_err(|_| PropertyError::NotText)
            };
            let (command, property) = (word()?, word()?);
            let key = if property == "user-property" {
                word()?
            } else {
                String::new()
            };
            let value = word()?;
            let properties = properties.get_or_insert_with(Properties::default);
            properties.add(&command, &property, key, value)?;
            continue;
        }
        let has_value = takes_value(option);
        rest.push(argument);
        if has_value {
            rest.extend(arguments.next());
        }
    }
    Ok((rest, properties))
}

impl Properties {
    fn add(
        &mut self,
        command: &str,
        property: &str,
        key: String,
        value: String,
    ) -> Result<(), PropertyError> {
        let command = command.to_ascii_lowercase();
        if property == "user-property" {
            self.user(&command)?.push((key, value));
            return Ok(());
        }
        let slot = Slot { property, value };
        match (command.as_str(), property) {
            ("connect", _) => self.connect.add(slot),
            ("publish", _) => self.publish.add("publish", slot),
            ("will", "will-delay-interval") => slot.number(&mut self.will_delay_seconds),
            ("will", _) => self.will.add("will", slot),
            ("subscribe", "subscription-identifier") => slot
                .number_to(&mut self.subscription_id, |id: &NonZeroU32| {
                    id.get() <= 268_435_455
                }),
            ("disconnect", "session-expiry-interval") => {
                slot.number(&mut self.disconnect_expiry_seconds)
            }
            ("subscribe" | "unsubscribe" | "disconnect", _) => Err(slot.unknown(&command)),
            _ => Err(PropertyError::Command(command)),
        }
    }

    fn user(&mut self, command: &str) -> Result<&mut Pairs, PropertyError> {
        Ok(match command {
            "connect" => &mut self.connect.user,
            "publish" => &mut self.publish.user,
            "will" => &mut self.will.user,
            "subscribe" => &mut self.subscribe_user,
            "unsubscribe" => &mut self.unsubscribe_user,
            "disconnect" => &mut self.disconnect_user,
            _ => return Err(PropertyError::Command(command.to_owned())),
        })
    }
}

impl ConnectProperties {
    fn add(&mut self, slot: Slot<'_>) -> Result<(), PropertyError> {
        match slot.property {
            "session-expiry-interval" => slot.number(&mut self.session_expiry_seconds),
            "receive-maximum" => slot.number(&mut self.receive_maximum),
            "maximum-packet-size" => slot.number(&mut self.packet_bytes_max),
            "topic-alias-maximum" => slot.number(&mut self.topic_alias_maximum),
            "request-response-information" => slot.bit(&mut self.request_response_information),
            "request-problem-information" => slot.bit(&mut self.request_problem_information),
            _ => Err(slot.unknown("connect")),
        }
    }
}

impl MessageProperties {
    fn add(&mut self, command: &str, slot: Slot<'_>) -> Result<(), PropertyError> {
        match slot.property {
            "payload-format-indicator" => slot.bit(&mut self.is_text),
            "message-expiry-interval" => slot.number(&mut self.expiry_seconds),
            "content-type" => slot.put(&mut self.content_type, Some),
            "response-topic" => slot.put(&mut self.response_topic, Some),
            "correlation-data" => {
                slot.put(&mut self.correlation_data, |value| Some(value.into_bytes()))
            }
            _ => Err(slot.unknown(command)),
        }
    }
}

/// One value on its way to its place.
struct Slot<'a> {
    property: &'a str,
    value: String,
}

impl Slot<'_> {
    fn number<N: std::str::FromStr>(self, slot: &mut Option<N>) -> Result<(), PropertyError> {
        self.number_to(slot, |_| true)
    }

    fn number_to<N: std::str::FromStr>(
        self,
        slot: &mut Option<N>,
        is_possible: impl Fn(&N) -> bool,
    ) -> Result<(), PropertyError> {
        self.put(slot, |value| value.parse().ok().filter(is_possible))
    }

    fn bit(self, slot: &mut Option<bool>) -> Result<(), PropertyError> {
        self.put(slot, |value| match value.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
    }

    fn put<V>(
        self,
        slot: &mut Option<V>,
        read: impl FnOnce(String) -> Option<V>,
    ) -> Result<(), PropertyError> {
        if slot.is_some() {
            return Err(PropertyError::Twice(self.property.to_owned()));
        }
        let fault = || PropertyError::Value {
            property: self.property.to_owned(),
            value: self.value.clone(),
        };
        *slot = Some(read(self.value.clone()).ok_or_else(fault)?);
        Ok(())
    }

    fn unknown(&self, command: &str) -> PropertyError {
        PropertyError::Property {
            command: command.to_owned(),
            property: self.property.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &str) -> Result<(Vec<String>, Option<Properties>), PropertyError> {
        let arguments = line.split(' ').map(OsString::from);
        let (rest, properties) = take_properties(arguments, |option| option == "-m")?;
        Ok((
            rest.into_iter()
                .map(|word| word.into_string().unwrap())
                .collect(),
            properties,
        ))
    }

    fn check(line: &str, expected: PropertyError) {
        assert_eq!(take(line), Err(expected), "{line}");
    }

    #[test]
    fn properties_are_taken_out_of_the_line() {
        let (rest, properties) = take(
            "pub -t a -D publish user-property k -D -D PUBLISH content-type text -q 1 \
             -D connect receive-maximum 5 -D will will-delay-interval 9 -D publish user-property k v",
        )
        .unwrap();
        assert_eq!(rest, ["pub", "-t", "a", "-q", "1"]);
        let properties = properties.unwrap();
        let pairs = [("k", "-D"), ("k", "v")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(properties.publish.user, pairs);
        assert_eq!(properties.publish.content_type.as_deref(), Some("text"));
        assert_eq!(properties.connect.receive_maximum, NonZeroU16::new(5));
        assert_eq!(properties.will_delay_seconds, Some(9));
    }

    #[test]
    fn a_message_may_look_like_a_property() {
        assert_eq!(
            take("-m -D -t a").unwrap(),
            (
                vec!["-m".into(), "-D".into(), "-t".into(), "a".into()],
                None
            )
        );
    }

    #[test]
    fn mistakes_are_named() {
        let value = |property: &str, value: &str| PropertyError::Value {
            property: property.to_owned(),
            value: value.to_owned(),
        };
        let unknown = |command: &str, property: &str| PropertyError::Property {
            command: command.to_owned(),
            property: property.to_owned(),
        };
        check("-D publish", PropertyError::Missing);
        check("-D publish user-property k", PropertyError::Missing);
        check(
            "-D puback user-property k v",
            PropertyError::Command("puback".to_owned()),
        );
        check(
            "-D pubish topic-alias 1",
            PropertyError::Command("pubish".to_owned()),
        );
        check(
            "-D publish receive-maximum 5",
            unknown("publish", "receive-maximum"),
        );
        check(
            "-D subscribe topic-alias 5",
            unknown("subscribe", "topic-alias"),
        );
        check(
            "-D connect receive-maximum 0",
            value("receive-maximum", "0"),
        );
        check(
            "-D connect receive-maximum 65536",
            value("receive-maximum", "65536"),
        );
        check(
            "-D publish topic-alias 1",
            unknown("publish", "topic-alias"),
        );
        check(
            "-D publish payload-format-indicator 2",
            value("payload-format-indicator", "2"),
        );
        check(
            "-D subscribe subscription-identifier 268435456",
            value("subscription-identifier", "268435456"),
        );
        check(
            "-D publish content-type a -D publish content-type b",
            PropertyError::Twice("content-type".to_owned()),
        );
    }
}
