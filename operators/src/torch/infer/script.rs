//! A TorchScript model.

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, TchError, Tensor};

use super::super::input::channels_last;
use super::output::{Output, choose};
use crate::operator::{BindError, RunError};
use crate::tensor_file;

/// The key that names the model.
const KEY: &str = "model";
/// Inputs that a model is tried with where it does not take one: what takes more is told of as what fails.
const INPUTS: [usize; 3] = [2, 3, 4];

/// A loaded model, in evaluation mode.
#[derive(Debug)]
pub struct Script {
    file: PathBuf,
    module: CModule,
    /// Which of its outputs is the feature, where it has several.
    output: Option<Output>,
    /// Whether it takes images with their channels last in memory, which is faster; `view` in a script can forbid it.
    channels_last: bool,
}

impl Script {
    /// Loads the model, and runs it once to see the shape of its output, less the number of images. Without a size, only loads it.
    ///
    /// # Errors
    /// There is no such file, it is no TorchScript, or it does not yield one row of numbers an image.
    pub fn load(
        file: PathBuf,
        output: Option<Output>,
        size: Option<[usize; 2]>,
    ) -> Result<Option<(Self, Vec<usize>)>, BindError> {
        if !file.is_file() {
            let fault = BindError::key(KEY, format!("there is no file {}", file.display()));
            return Err(fault.help("paths start from the folder of the pipeline file"));
        }
        let module = module(&file, Device::Cpu).map_err(|error| other(&file, &first_line(&error)))?;
        let Some([height, width]) = size else { return Ok(None) };
        let mut script = Self { file, module, output, channels_last: true };
        let shape = script.shape(height, width).or_else(|_| {
            script.channels_last = false;
            script.shape(height, width)
        });
        shape.map(|shape| Some((script, shape)))
    }

    /// The shape of the output for one image, tried with two.
    fn shape(&self, height: usize, width: usize) -> Result<Vec<usize>, BindError> {
        let _guard = tch::no_grad_guard();
        let sizes = [2, 3, height as i64, width as i64];
        let images = Tensor::f_zeros(sizes, (Kind::Float, Device::Cpu)).and_then(|zeros| channels_last(&zeros));
        let fails = |why: String| {
            let fault = BindError::key(KEY, format!("fails on 2x3x{height}x{width}: {why}"));
            fault.help("it is given images alone, normalised, N x 3 x H x W")
        };
        let images = images.map_err(|error| fails(first_line(&error)))?;
        let result = self.results(&images, 1).map_err(|error| {
            let takes = INPUTS.into_iter().find(|&inputs| self.results(&images, inputs).is_ok());
            let takes = takes.map(|inputs| format!("it takes {inputs} inputs, and images are one"));
            fails(takes.unwrap_or_else(|| first_line(&error)))
        })?;
        let output = choose(result, self.output.as_ref()).map_err(|fault| fault.at_key(KEY))?;
        let (shape, kind) = (output.size(), output.kind());
        let floats = matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        if !floats || shape.len() < 2 || shape[0] != 2 || shape.contains(&0) {
            let message = format!("should yield numbers an image, N x …, and for N = 2 yields {shape:?} of {kind:?}");
            return Err(BindError::key(KEY, message));
        }
        Ok(shape[1..].iter().map(|&side| side as usize).collect())
    }

    /// Loads the model anew if it is to be on another device.
    ///
    /// # Errors
    /// The file is gone, or the device does not take it.
    pub fn move_to(&mut self, device: Device) -> Result<(), RunError> {
        if device != Device::Cpu {
            self.module = module(&self.file, device)?;
        }
        Ok(())
    }

    /// The output for `N x 3 x H x W`, on the model's device.
    ///
    /// # Errors
    /// The model fails, or yields no such output now.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        choose(self.results(input, 1)?, self.output.as_ref())
            .map_err(|fault| TchError::Torch(format!("the model's result changed: {fault}")))
    }

    /// All that the model yields for images, given so many times.
    fn results(&self, images: &Tensor, times: usize) -> Result<IValue, TchError> {
        // Of this thread. The optimising executor rewrites a model after its first runs, and with it the results' last bits.
        tch::jit::f_set_graph_executor_optimize(false)?;
        let images = if self.channels_last { images.shallow_clone() } else { images.f_contiguous()? };
        let inputs: Vec<IValue> = (0..times).map(|_| IValue::Tensor(images.shallow_clone())).collect();
        self.module.forward_is(&inputs)
    }
}

/// The fault of a file that libtorch cannot read, for that reason: what it is, if that is known.
fn other(file: &Path, reason: &str) -> BindError {
    use tensor_file::Kind::{Safetensors, Torch, TorchLegacy, TorchScript, Unknown};
    let kind = tensor_file::Kind::of(file).unwrap_or(Unknown);
    let what = match kind {
        TorchScript | Unknown => reason.to_owned(),
        Safetensors | Torch | TorchLegacy => format!("it is {}, which has no model's code", kind.describe()),
        kind => format!("it is {}", kind.describe()),
    };
    BindError::key(KEY, format!("{} cannot be read as TorchScript: {what}", file.display())).help(kind.to_model(file))
}

fn module(file: &PathBuf, device: Device) -> Result<CModule, TchError> {
    let mut module = CModule::load_on_device(file, device)?;
    module.f_set_eval()?;
    Ok(module)
}

/// libtorch's messages go on with a stack trace, and with the script's: what is last before those says what is wrong.
fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    // Behind the reason libtorch lists its own functions.
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("frame #"));
    let reason = lines().find(|line| line.starts_with("RuntimeError:") || line.contains("Error:"));
    reason.or_else(|| lines().next()).unwrap_or_default().to_owned()
}
