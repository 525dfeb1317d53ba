//! Stages of a run that failed, and those that read them.

use crate::engine::catalog::Catalog;
use crate::watch::interrupt::Interrupted;

/// Stages that failed. Of a sweep, the cells that do not depend on them are made all the same.
#[derive(Default)]
pub struct Failures {
    found: Vec<(usize, anyhow::Error)>,
    /// Stages that were left out.
    behind: usize,
}

impl Failures {
    pub fn add(&mut self, node: usize, error: anyhow::Error) {
        self.found.push((node, error));
    }

    /// Whether a stage reads one that failed, directly or not: then it is counted as left out.
    pub fn reach(&mut self, catalog: &Catalog, node: usize) -> bool {
        if self.found.is_empty() {
            return false;
        }
        let upstream = catalog.plan.graph.upstream(&[node]);
        let reached = self.found.iter().any(|(failed, _)| upstream.contains(failed));
        self.behind += usize::from(reached);
        reached
    }

    /// What to say at the end: the error, and if some followed, which cells failed. An interruption stays what it is.
    pub fn error(mut self, catalog: &Catalog) -> Option<anyhow::Error> {
        let (_, last) = self.found.last()?;
        if self.found.len() == 1 || last.is::<Interrupted>() {
            return self.found.pop().map(|(_, error)| error);
        }
        let names: Vec<&str> = self.found.iter().map(|(node, _)| catalog.name(*node)).collect();
        let behind =
            if self.behind == 0 { String::new() } else { format!(", and {} that read them were left out", self.behind) };
        let (count, names) = (names.len(), names.join(", "));
        let (_, first) = self.found.swap_remove(0);
        Some(anyhow::anyhow!("{first:#} ({count} cells failed: {names}{behind})"))
    }
}
