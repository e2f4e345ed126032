//! A listener's mount point: the prefix that all names of its clients get, and that they do not see.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_codec::{SubscribeFilter, Will};
use paloma_topic::{Target, TopicFilter, TopicName, TopicNameRef};

/// The longest name that a string of the protocol can hold.
const NAME_BYTES_MAX: usize = u16::MAX as usize;

/// A prefix of topics, like `house/`; an empty one is none.
///
/// What a client behind it calls `door` is `house/door` to everybody else: in PUBLISH, SUBSCRIBE, UNSUBSCRIBE, wills and
/// response topics, and on the way back. Rules, retained messages, queues and the store know the whole names only. A
/// client reaches nothing outside, and nothing whose name begins with `$` after the prefix, so that its wildcards mean
/// what the standard says. [MQTT-4.7.2-1]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPoint(Option<Arc<str>>);

/// A text that is no [`MountPoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPointError {
    /// More than [`MountPoint::BYTES_MAX`].
    TooLong,
    /// Without `/` at its end, `#` of a client could not stand behind it.
    EndsWithinLevel,
    /// The broker's own topics are nobody's to write.
    Reserved,
    /// A wildcard, U+0000 or a control character.
    Character,
}

impl fmt::Display for MountPointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a mount point has at most 256 bytes",
            Self::EndsWithinLevel => "a mount point ends with /",
            Self::Reserved => "a mount point does not begin with $",
            Self::Character => "a mount point has no wildcards and no control characters",
        })
    }
}

impl std::error::Error for MountPointError {}

impl MountPoint {
    /// Bytes of a prefix.
    pub const BYTES_MAX: usize = 256;

    /// Takes a prefix that ends with `/`, or an empty one.
    ///
    /// # Errors
    /// What it may not be.
    pub fn new(text: &str) -> Result<Self, MountPointError> {
        if text.len() > Self::BYTES_MAX {
            return Err(MountPointError::TooLong);
        }
        if text.starts_with('$') {
            return Err(MountPointError::Reserved);
        }
        if text.contains(|c: char| matches!(c, '+' | '#') || c.is_control()) {
            return Err(MountPointError::Character);
        }
        if !text.is_empty() && !text.ends_with('/') {
            return Err(MountPointError::EndsWithinLevel);
        }
        Ok(Self((!text.is_empty()).then(|| Arc::from(text))))
    }

    /// The prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether names stay as they are.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The prefix as a connection keeps it.
    pub(crate) fn text(&self) -> ByteString {
        ByteString::from(self.as_str())
    }

    /// Whether a client behind this may have anything to do with a whole name or filter.
    pub(crate) fn reaches(&self, name: &str) -> bool {
        self.is_none()
            || name
                .strip_prefix(self.as_str())
                .is_some_and(|own| !own.is_empty() && !own.starts_with('$'))
    }

    /// The whole name of what a client calls `topic`; `None` if that is too long to be one.
    pub(crate) fn name(&self, topic: TopicNameRef<'_>) -> Option<TopicName> {
        let whole = self.whole(topic.as_str())?;
        TopicName::new(whole).ok()
    }

    /// The same for an entry of SUBSCRIBE or UNSUBSCRIBE; in a shared one the prefix is the filter's.
    pub(crate) fn target<'a>(&self, target: &'a Target) -> Option<Cow<'a, Target>> {
        if self.is_none() {
            return Some(Cow::Borrowed(target));
        }
        let filter = TopicFilter::new(self.whole(target.filter().as_str())?).ok()?;
        Some(Cow::Owned(match target {
            Target::Plain(_) => Target::Plain(filter),
            Target::Shared { share, .. } => Target::Shared {
                share: share.clone(),
                filter,
            },
        }))
    }

    /// The same for an entry of SUBSCRIBE with its options.
    pub(crate) fn filter<'a>(
        &self,
        wanted: &'a SubscribeFilter,
    ) -> Option<Cow<'a, SubscribeFilter>> {
        match self.target(&wanted.target)? {
            Cow::Borrowed(_) => Some(Cow::Borrowed(wanted)),
            Cow::Owned(target) => Some(Cow::Owned(SubscribeFilter {
                target,
                options: wanted.options,
            })),
        }
    }

    /// Gives a will its whole names; false if one would be too long.
    pub(crate) fn mount_will(&self, will: &mut Will) -> bool {
        if self.is_none() {
            return true;
        }
        let Some(topic) = self.name(will.topic.borrowed()) else {
            return false;
        };
        will.topic = topic;
        if let Some(response) = &will.properties.response_topic {
            let Some(whole) = self.name(response.borrowed()) else {
                return false;
            };
            will.properties.response_topic = Some(whole);
        }
        true
    }

    fn whole(&self, own: &str) -> Option<String> {
        let fits = self.as_str().len() + own.len() <= NAME_BYTES_MAX;
        fits.then(|| [self.as_str(), own].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), MountPointError>) {
        assert_eq!(MountPoint::new(text).map(drop), expected, "{text}");
    }

    #[test]
    fn a_prefix_is_whole_levels_without_wildcards() {
        use MountPointError::{Character, EndsWithinLevel, Reserved, TooLong};
        for good in ["", "/", "house/", "a/b/", "é/"] {
            check(good, Ok(()));
        }
        check("house", Err(EndsWithinLevel));
        check("$SYS/", Err(Reserved));
        check("a/+/", Err(Character));
        check("a\u{1b}/", Err(Character));
        check(&format!("{}/", "x".repeat(256)), Err(TooLong));
        check(&format!("{}/", "x".repeat(255)), Ok(()));
    }

    #[test]
    fn a_client_reaches_what_stands_behind_its_prefix() {
        let mount = MountPoint::new("house/").unwrap();
        for (name, expected) in [
            ("house/door", true),
            ("house/#", true),
            ("house//", true),
            ("house", false),
            ("house/", false),
            ("houses/door", false),
            ("#", false),
            ("+/door", false),
            ("house/$SYS", false),
            ("$SYS/house/", false),
        ] {
            assert_eq!(mount.reaches(name), expected, "{name}");
        }
        assert!(MountPoint::default().reaches("$SYS/#"));
    }

    #[test]
    fn a_whole_name_that_is_too_long_is_none() {
        let mount = MountPoint::new("house/").unwrap();
        let longest = "x".repeat(NAME_BYTES_MAX - 6);
        let name = |text: &str| mount.name(TopicNameRef::new(text).unwrap()).map(|_| ());
        assert_eq!(name(&longest), Some(()));
        assert_eq!(name(&format!("{longest}x")), None);
    }
}
