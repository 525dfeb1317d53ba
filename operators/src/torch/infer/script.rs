//! A TorchScript model.

use std::path::{Path, PathBuf};

use tch::{CModule, Device, Kind, TchError, Tensor};

use super::super::input::channels_last;
use crate::operator::{BindError, RunError};
use crate::tensor_file::{self, Header};

/// The key that names the model.
const KEY: &str = "model";

/// A loaded model, in evaluation mode.
#[derive(Debug)]
pub struct Script {
    file: PathBuf,
    module: CModule,
    /// Whether it takes images with their channels last in memory, which is faster; `view` in a script can forbid it.
    channels_last: bool,
}

impl Script {
    /// Loads the model, and runs it once to see the shape of its output, less the number of images. Without a size, only loads it.
    ///
    /// # Errors
    /// There is no such file, it is no TorchScript, or it does not yield one row of numbers an image.
    pub fn load(file: PathBuf, size: Option<[usize; 2]>) -> Result<Option<(Self, Vec<usize>)>, BindError> {
        if !file.is_file() {
            let fault = BindError::key(KEY, format!("there is no file {}", file.display()));
            return Err(fault.help("paths start from the folder of the pipeline file"));
        }
        let module = module(&file, Device::Cpu).map_err(|error| other(&file, &first_line(&error)))?;
        let Some([height, width]) = size else { return Ok(None) };
        let mut script = Self { file, module, channels_last: true };
        let shape = script.shape(height, width).or_else(|_| {
            script.channels_last = false;
            script.shape(height, width)
        });
        shape.map(|shape| Some((script, shape))).map_err(|message| BindError::key(KEY, message))
    }

    /// The shape of the output for one image, tried with two.
    fn shape(&self, height: usize, width: usize) -> Result<Vec<usize>, String> {
        let _guard = tch::no_grad_guard();
        let sizes = [2, 3, height as i64, width as i64];
        let output =
            Tensor::f_zeros(sizes, (Kind::Float, Device::Cpu)).and_then(|zeros| self.forward(&channels_last(&zeros)?));
        let output = output.map_err(|error| format!("fails on 2x3x{height}x{width}: {}", first_line(&error)))?;
        let (shape, kind) = (output.size(), output.kind());
        let floats = matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        if !floats || shape.len() < 2 || shape[0] != 2 || shape.contains(&0) {
            return Err(format!("should yield numbers an image, N x …, and for N = 2 yields {shape:?} of {kind:?}"));
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
    /// The model fails.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        // Of this thread. The optimising executor rewrites a model after its first runs, and with it the results' last bits.
        tch::jit::f_set_graph_executor_optimize(false)?;
        if self.channels_last { self.module.forward_ts(&[input]) } else { self.module.forward_ts(&[input.f_contiguous()?]) }
    }
}

/// The fault of a file that libtorch cannot read, for that reason: what it is, if that is known.
fn other(file: &Path, reason: &str) -> BindError {
    use tensor_file::Kind::{TorchScript, Unknown};
    let script = "in Python: torch.jit.trace(model.eval(), torch.zeros(1, 3, H, W)).save(\"model.pt\")";
    let (what, help) = match (Header::read(file), tensor_file::Kind::of(file)) {
        (Ok(_), _) => (
            "it is a safetensors file: tensors without a model's code".to_owned(),
            "a stage `weights` reads it, as the input `weights` of this one",
        ),
        (_, Ok(TorchScript | Unknown) | Err(_)) => (reason.to_owned(), script),
        (_, Ok(kind)) => (format!("it is {}", kind.describe()), script),
    };
    BindError::key(KEY, format!("{} cannot be read as TorchScript: {what}", file.display())).help(help)
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
