//! Paths into items.

use std::convert::Infallible;
use std::fmt::{self, Write as _};

use crate::error::{self, Error, shortened, start};
use crate::value::{Item, Name, Value};
use crate::work::{STEP, Work};

/// One step into an item.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// To an attribute, or an entry of a map.
    Name(Name),
    /// The index in a list, from 0.
    Index(usize),
}

/// The way to a value in an item: the name of an attribute, then the steps into it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path of an attribute.
    #[must_use]
    pub fn attribute(name: impl Into<Name>) -> Self {
        Self(vec![Step::Name(name.into())])
    }

    /// Whether it leads to the value of another path, or into it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The attribute it leads to or into; `None` for a path that does not start with a name.
    #[must_use]
    pub fn root(&self) -> Option<&Name> {
        match self.0.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// The value it leads to.
    #[must_use]
    pub fn find<'a>(&self, item: &'a Item) -> Option<&'a Value> {
        let Ok(found) = self.find_counted(item, &mut Work::<Infallible>::new(&mut || Ok(())));
        found
    }

    /// The value it leads to. The work can end early.
    pub(crate) fn find_counted<'a, E>(
        &self,
        item: &'a Item,
        work: &mut Work<'_, E>,
    ) -> Result<Option<&'a Value>, E> {
        let Some((Step::Name(name), inner)) = self.0.split_first() else {
            return Ok(None);
        };
        work.count(STEP + item.len())?;
        let mut found = item.get(name);
        for step in inner {
            found = match (found, step) {
                (Some(Value::Map(map)), Step::Name(name)) => {
                    work.count(STEP + map.len())?;
                    map.get(name)
                }
                (Some(Value::List(list)), Step::Index(index)) => list.get(*index),
                _ => return Ok(None),
            };
        }
        Ok(found)
    }

    /// Checks that it starts with the name of an attribute.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if it does not.
    pub fn check(&self) -> error::Result<()> {
        match self.root() {
            Some(name) if !name.is_empty() => Ok(()),
            _ => Err(Error::invalid(format!(
                "path {self} does not start with the name of an attribute"
            ))),
        }
    }

    /// What it leads to, as messages about its attribute show it.
    #[must_use]
    pub fn below(&self) -> String {
        match self.0.get(1..) {
            None | Some([]) => "the attribute".to_owned(),
            Some(steps) => Self(steps.to_vec()).to_string(),
        }
    }
}

impl From<&str> for Path {
    fn from(name: &str) -> Self {
        Self::attribute(name)
    }
}

/// As messages show it: cut, if it is long.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        let mut text = String::new();
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if index == 0 => text.push_str(start(name, SHOWN)),
                Step::Name(name) => write!(text, ".{}", start(name, SHOWN))?,
                Step::Index(index) => write!(text, "[{index}]")?,
            }
        }
        f.write_str(&shortened(&text))
    }
}
