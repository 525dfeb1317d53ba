//! The `tessera` binary.

use tessera_pipeline::ask::sql::limits::allocator::Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn main() {
    tessera_pipeline::cli::main()
}
