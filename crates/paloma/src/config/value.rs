//! One configured value, from the file or from a text, read as the type its key wants.

use toml::de::DeValue;

use super::problem::Fault;
use crate::parts::Part;

/// A value as it was given. A text is from the environment or a flag and has the type its key wants.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Toml(&'a DeValue<'a>),
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// A string.
    pub(crate) fn text(&self) -> Result<&'a str, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Toml(value) => value.as_str().ok_or_else(|| self.not("a string")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn switch(&self) -> Result<bool, Fault> {
        let found = match self {
            Self::Toml(value) => value.as_bool(),
            Self::Text("true") => Some(true),
            Self::Text("false") => Some(false),
            Self::Text(_) => None,
        };
        found.ok_or_else(|| self.not("true or false"))
    }

    /// A whole number between `least` and `most`, both included.
    pub(crate) fn number<N: TryFrom<u64>>(&self, least: u64, most: u64) -> Result<N, Fault> {
        let (digits, radix) = match self {
            Self::Toml(value) => {
                let integer = value
                    .as_integer()
                    .ok_or_else(|| self.not("a whole number"))?;
                (integer.as_str().replace('_', ""), integer.radix())
            }
            Self::Text(text) => (text.replace('_', ""), 10),
        };
        if !self.is_number() {
            return Err(self.not("a whole number"));
        }
        let number = i128::from_str_radix(&digits, radix).ok();
        if number == Some(0) && least > 0 {
            return Err(Fault::Zero { least, most });
        }
        number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| N::try_from(number).ok())
            .ok_or(Fault::OutOfRange {
                found: digits,
                least,
                most,
            })
    }

    /// A number as [`Value::number`], or the word `"unlimited"`, which gives `unlimited`.
    pub(crate) fn number_or_unlimited<N: TryFrom<u64>>(
        &self,
        least: u64,
        most: u64,
        unlimited: N,
    ) -> Result<N, Fault> {
        if matches!(self.text(), Ok("unlimited")) {
            return Ok(unlimited);
        }
        if !self.is_number() {
            return Err(self.not("a whole number or \"unlimited\""));
        }
        self.number(least, most)
    }

    /// One of the words, and what it stands for.
    pub(crate) fn choice<C: Copy>(&self, choices: &[(&'static str, C)]) -> Result<C, Fault> {
        let found = self.text()?;
        choices
            .iter()
            .find(|(word, _)| *word == found)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| Fault::NotOneOf {
                found: found.to_owned(),
                choices: choices.iter().map(|(word, _)| *word).collect(),
            })
    }

    /// A list of strings; in a text they are separated by commas.
    pub(crate) fn texts(&self) -> Result<Vec<&'a str>, Fault> {
        match self {
            Self::Text(text) => Ok(text.split(',').map(str::trim).collect()),
            Self::Toml(value) => {
                let array = value
                    .as_array()
                    .ok_or_else(|| self.not("a list of strings"))?;
                let texts = array.iter().map(|entry| entry.get_ref().as_str());
                texts
                    .collect::<Option<_>>()
                    .ok_or_else(|| self.not("a list of strings"))
            }
        }
    }

    /// Whether it is a table, which somebody else reads.
    pub(crate) fn table(&self) -> Result<(), Fault> {
        match self {
            Self::Toml(DeValue::Table(_)) => Ok(()),
            Self::Toml(_) | Self::Text(_) => Err(self.not("a table")),
        }
    }

    /// The same for a table that is about a part of the program.
    pub(crate) fn table_of(&self, part: Part) -> Result<(), Fault> {
        part.need()?;
        self.table()
    }

    fn is_number(&self) -> bool {
        match self {
            Self::Toml(value) => value.is_integer(),
            Self::Text(text) => {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'_';
                digits.starts_with(|first: char| first.is_ascii_digit())
                    && digits.bytes().all(is_digit)
            }
        }
    }

    fn not(&self, expected: &'static str) -> Fault {
        let found = match self {
            Self::Text(_) => "other text",
            Self::Toml(value) => match value {
                DeValue::String(_) => "a string",
                DeValue::Integer(_) => "a whole number",
                DeValue::Float(_) => "a number with a fraction",
                DeValue::Boolean(_) => "true or false",
                DeValue::Datetime(_) => "a date or time",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            },
        };
        Fault::WrongType { expected, found }
    }
}
