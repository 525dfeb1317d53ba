//! Images through a network: workers, blocks, pooling.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tch::{TchError, Tensor};
use tessera_schemas::features;
use tessera_schemas::pixels::Pixels;

use super::{Body, Plan, Pooling, WEIGHTS};
use crate::operator::{Inputs, Map, MapFn, RunError, Scope};
use crate::shared::Shared;
use crate::torch::forward::{self, Mode, Tape};
use crate::torch::input::{append_rows, normalised};
use crate::torch::tensors::Tensors;
use crate::vectors;

/// Images that go through the network at once.
const BLOCK: usize = 32;

impl Plan {
    /// Features of one block of normalised images, each layer's in `visit`'s order.
    fn run(
        &self,
        tensors: &Tensors,
        input: Tensor,
        visit: &mut dyn FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let mut pooled = |column: usize, output: &Tensor| match (self.pools[column] as i64, self.pooling) {
            (0, _) => visit(column, output),
            (pool, Pooling::Max) => visit(column, &output.f_adaptive_max_pool2d([pool, pool])?.0),
            (pool, Pooling::Avg) => visit(column, &output.f_adaptive_avg_pool2d([pool, pool])?),
        };
        match &self.body {
            Body::Steps { steps, layers, .. } => {
                let mut named = |name: &str, output: &Tensor| {
                    let column = layers.iter().position(|layer| layer == name);
                    column.map_or(Ok(()), |column| pooled(column, output))
                };
                forward::run(steps, tensors, input, Mode::Evaluate, &mut Tape::default(), &mut named).map(drop)
            }
            Body::Script(script) => pooled(0, &script.forward(&input)?),
        }
    }
}

/// The kernel.
pub struct Inference {
    plan: Arc<Plan>,
    device: tch::Device,
    schema: SchemaRef,
    tensors: Shared<Tensors>,
}

impl Inference {
    /// Inference by a plan whose network is on the device already, unless it is in a table of weights.
    pub fn new(plan: Plan, device: tch::Device, schema: SchemaRef) -> Self {
        Self { plan: Arc::new(plan), device, schema, tensors: Shared::default() }
    }
}

impl Map for Inference {
    fn open(&self, sides: &Inputs<Vec<RecordBatch>>) -> Result<Box<dyn MapFn>, RunError> {
        let make = || match &self.plan.body {
            Body::Script(_) => Ok(Tensors::default()),
            Body::Steps { parameters, .. } => Tensors::read(sides.required(WEIGHTS), parameters, self.device),
        };
        let tensors = self.tensors.handle(make, Tensors::share)?;
        let (plan, device, schema) = (self.plan.clone(), self.device, self.schema.clone());
        Ok(Box::new(Worker { plan, device, schema, tensors }))
    }

    fn block(&self) -> usize {
        BLOCK
    }
}

/// One worker.
struct Worker {
    plan: Arc<Plan>,
    device: tch::Device,
    schema: SchemaRef,
    tensors: Tensors,
}

impl MapFn for Worker {
    fn call(&mut self, batch: &RecordBatch, _: &mut Scope<'_>) -> Result<RecordBatch, RunError> {
        // Of this thread: more would only get in the other workers' way, and make sums depend on their number.
        tch::set_num_threads(1);
        let _guard = tch::no_grad_guard();
        let images = Pixels::of(batch)?;
        let rows = images.len();
        let lengths = self.schema.fields()[1..].iter().map(|field| features::dimension(&self.schema, field.name()));
        let lengths = lengths.collect::<Result<Vec<_>, _>>()?;
        let mut columns: Vec<Vec<f32>> = lengths.iter().map(|length| Vec::with_capacity(rows * length)).collect();
        let (size, image) = (self.plan.size, images.height * images.width * 3);
        let mut padded = Vec::new();
        for start in (0..rows).step_by(BLOCK) {
            let real = BLOCK.min(rows - start);
            let mut bytes = &images.bytes[start * image..(start + real) * image];
            if real < BLOCK {
                padded.clear();
                padded.extend_from_slice(bytes);
                padded.resize(BLOCK * image, 0);
                bytes = &padded;
            }
            let input = normalised(bytes, size, self.plan.normalisation, self.device)?;
            self.plan.run(&self.tensors, input, &mut |column, output| append_rows(output, real, &mut columns[column]))?;
        }
        vectors::table(batch, &self.schema, columns)
    }
}
