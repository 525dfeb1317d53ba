//! `sql`: a query over other stages' tables.
//!
//! Input: any number of tables, by the names that the query uses. Output: the query's rows, sorted by `image_id` where there is
//! one. Config: `query`. The result follows from the tables' rows: `LIMIT`, `first_value` and the like need an `ORDER BY`, and ties of
//! an order are ended by `image_id`, or else by all columns.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operator::{BindError, Binding, Context, Operator, Port, PortKind, Query, RunError};

/// Keys of a `sql` stage.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One SELECT, over the stage's inputs by their names.
    query: String,
}

/// The bound operator.
pub struct Sql {
    query: String,
    schema: SchemaRef,
    reads: BTreeMap<String, Vec<String>>,
}

impl Operator for Sql {
    const NAME: &'static str = "sql";
    const SUMMARY: &'static str = "a query over other stages' tables";
    const OUTPUT: &'static [(&'static str, &'static str)] = &[("each of the query", "as the query says")];
    const EXAMPLE: &'static str = r#"
[stage.sharp]
op = "sql"
inputs = { images = "images", assigned = "assigned" }
query = "SELECT i.*, cluster FROM images i JOIN assigned USING (image_id) WHERE width >= 256"
"#;
    const VERSION: u32 = 2;
    const INPUTS: &'static [Port] = &[Port { name: "*", kind: PortKind::Named, required: true, columns: &[] }];
    type Config = Config;
    type Kernel = Query;

    fn bind(config: Config, inputs: &Binding<'_>) -> Result<Self, Vec<BindError>> {
        let (schema, reads) =
            inputs.planner.plan(&config.query, inputs.inputs).map_err(|message| vec![BindError::key("query", message)])?;
        Ok(Self { query: config.query, schema, reads })
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn reads(&self, input: &str, _: &'static Port) -> Vec<String> {
        self.reads.get(input).cloned().unwrap_or_default()
    }

    fn kernel(self, _: &Context) -> Result<Query, RunError> {
        Ok(Query { sql: self.query, ..Query::default() })
    }
}
