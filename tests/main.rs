//! Tests that cross crates, mostly through the binary, as its users see it.

mod contract;
mod damage;
mod diagnostics;
mod end_to_end;
mod exactness;
mod reuse;
mod sql;
