//! To come.
pub fn all() -> Vec<datafusion::logical_expr::AggregateUDF> {
    Vec::new()
}
