//! The permit to answer.

/// Proof that the entry of an operation is durable. Only the commit path makes one, and an answer to an operation can't
/// be built without it, so a route that answers unlogged does not compile:
///
/// ```compile_fail
/// let permit = keyd::commit::Permit { index: 7 };
/// ```
///
/// Nor can one be copied for a second answer:
///
/// ```compile_fail
/// fn twice(permit: keyd::commit::Permit) -> (keyd::commit::Permit, keyd::commit::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Permit {
    index: u64,
}

impl Permit {
    pub(super) fn granted(index: u64) -> Self {
        Self { index }
    }

    #[cfg(test)]
    pub(crate) fn of_test(index: u64) -> Self {
        Self { index }
    }

    /// The durable entry.
    pub fn index(&self) -> u64 {
        self.index
    }
}
