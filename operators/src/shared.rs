//! What the workers of a map share: made of its sides by the first of them.

use std::sync::{Mutex, PoisonError};

use crate::operator::RunError;

/// A value that is made once.
pub struct Shared<T>(Mutex<Option<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Shared<T> {
    /// A worker's handle on the value, which the first worker makes while the others wait. Where that fails, the next one tries.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn handle(&self, make: impl FnOnce() -> Result<T, RunError>, handle: impl FnOnce(&T) -> T) -> Result<T, RunError> {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if value.is_none() {
            *value = Some(make()?);
        }
        Ok(handle(value.as_ref().expect("it was made above, if not before")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_value_is_made_once_and_again_only_after_a_failure() {
        let shared = Shared::<Arc<str>>::default();
        let failing = || Err(RunError::Input("no".into()));
        assert!(shared.handle(failing, Arc::clone).is_err());
        let made = shared.handle(|| Ok("a".into()), Arc::clone).unwrap();
        let again = shared.handle(failing, Arc::clone).unwrap();
        assert!(Arc::ptr_eq(&made, &again));
    }
}
