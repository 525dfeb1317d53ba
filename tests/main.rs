//! Tests that cross crates, mostly through the binary, as its users see it.

mod command_line;
mod contract;
mod damage;
mod diagnostics;
mod end_to_end;
mod exactness;
mod export;
mod init;
mod interrupt;
mod labels;
mod recovery;
mod reuse;
mod show;
mod snapshots;
mod sql;
