//! What a test is, and all of them.

use std::any::type_name;
use std::fmt;

use paloma_codec::ProtocolVersion;

use crate::cases;
use crate::lab::Lab;
use crate::verdict::Verdict;

/// One test: a function named after what it shows.
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    /// The statements it proves, each in brackets.
    pub proves: &'static str,
    /// Where it applies.
    pub versions: &'static [ProtocolVersion],
    /// Whether it has to wait for seconds; those begin first.
    pub is_slow: bool,
    pub(crate) run: Box<dyn Fn(&Lab<'_>) -> Verdict + Send + Sync>,
}

/// Tests of one part of the standards.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Its tests.
    pub tests: Vec<Test>,
}

const BOTH: &[ProtocolVersion] = &[ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// A test of 3.1.1 and of 5.0.
pub(crate) fn both<F>(proves: &'static str, run: F) -> Test
where
    F: Fn(&Lab<'_>) -> Verdict + Send + Sync + 'static,
{
    test(BOTH, proves, run)
}

/// A test of 5.0.
pub(crate) fn v5<F>(proves: &'static str, run: F) -> Test
where
    F: Fn(&Lab<'_>) -> Verdict + Send + Sync + 'static,
{
    test(&[ProtocolVersion::V5], proves, run)
}

/// A test of 3.1.1.
pub(crate) fn v311<F>(proves: &'static str, run: F) -> Test
where
    F: Fn(&Lab<'_>) -> Verdict + Send + Sync + 'static,
{
    test(&[ProtocolVersion::V3_1_1], proves, run)
}

fn test<F>(versions: &'static [ProtocolVersion], proves: &'static str, run: F) -> Test
where
    F: Fn(&Lab<'_>) -> Verdict + Send + Sync + 'static,
{
    Test {
        name: type_name::<F>().rsplit("::").next().unwrap_or_default(),
        proves,
        versions,
        is_slow: false,
        run: Box::new(run),
    }
}

impl Test {
    /// The same, begun first.
    pub(crate) fn slow(self) -> Self {
        Self {
            is_slow: true,
            ..self
        }
    }

    /// The ids of the statements that it proves in this version, with those of our own.
    pub fn statements(&self, version: ProtocolVersion) -> impl Iterator<Item = &'static str> {
        let words = self.proves.split(['[', ']', ' ']);
        words.filter(move |word| {
            let is_v311 = word.starts_with("MQTT311-");
            !word.is_empty() && is_v311 != version.is_v5()
        })
    }
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.proves)
    }
}

/// All tests, in the order of the standards.
#[must_use]
pub fn sections() -> Vec<Section> {
    cases::sections()
}
