//! What a cluster is called.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use tessera_schemas::printable;

/// The most characters of a name.
pub const LONGEST: usize = 120;

/// A name: 1 to [`LONGEST`] characters in Unicode's composed form, without spaces around it, controls, or marks that turn the order of
/// writing round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Of a text as people type it.
    ///
    /// # Errors
    /// It is no name: a fragment that says what would be one.
    pub fn new(text: &str) -> Result<Self, String> {
        let name = composed(text.trim());
        let length = name.chars().count();
        // Of the marks that turn writing round, the Arabic letter mark alone is shown as it is elsewhere.
        if printable(&name) != name || name.contains('\u{61c}') {
            return Err(format!("the name `{}` has a character that cannot be seen: type it anew", printable(&name)));
        }
        match length {
            0 => Err(format!("a name is missing: 1 to {LONGEST} characters")),
            1..=LONGEST => Ok(Self(name)),
            _ => Err(format!("the name has {length} characters, and at most {LONGEST} fit")),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name in another spelling of it.
    pub(super) fn spelt(&self, spelling: &str) -> Self {
        Self(spelling.to_owned())
    }

    /// What names are compared by: `Straße`, `STRASSE` and `strasse` are one name.
    pub fn fold(&self) -> String {
        // Capitals first: some letters have a capital form that others share.
        composed(&self.0.to_uppercase().to_lowercase())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn composed(text: &str) -> String {
    const { ComposingNormalizerBorrowed::new_nfc() }.normalize(text).into_owned()
}
