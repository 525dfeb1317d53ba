//! Tests that cross crates, mostly through the binary, as its users see it.

mod command_line;
mod contract;
mod damage;
mod diagnostics;
mod end_to_end;
mod exactness;
mod export;
mod labels;
mod recovery;
mod reuse;
mod snapshots;
mod sql;
