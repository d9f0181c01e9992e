//! A store without a disk: the other side of the conformance suite.

use std::collections::BTreeMap;

use super::{Record, Store, StoreError};

/// Records in memory; they are gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<String, Vec<u8>>,
}

impl Store for MemoryStore {
    fn put(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.records.extend(records.iter().cloned());
        Ok(())
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        let records = self.records.iter();
        Ok(records.map(|(id, bytes)| (id.clone(), bytes.clone())).collect())
    }
}
