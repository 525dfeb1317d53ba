//! Tests that cross crates, mostly through the binary, as its users see it.

mod command_line;
mod contract;
mod damage;
mod diagnostics;
mod end_to_end;
mod exactness;
mod experiments;
mod export;
mod features;
mod full_disk;
mod init;
mod interrupt;
mod kills;
mod labels;
mod pseudo_labels;
mod recovery;
mod reuse;
mod rounds;
mod show;
mod snapshots;
mod source_changes;
mod sql;
mod store_damage;
mod sweeps;
mod transfer;
mod voc;
