//! Lets binaries find libtorch at run time where the build found it. Of every package that links one.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(torch) = env::var_os("LIBTORCH").map(PathBuf::from) else { return };
    let (lib, nvidia) = (torch.join("lib"), torch.join("../nvidia"));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());

    // libtorch_cuda makes itself known when it is loaded. No symbol of it is used, so the linker would leave it out, which is
    // right where what it needs in turn is not installed: the process could not start.
    if nvidia.exists() {
        println!("cargo:rerun-if-changed={}", nvidia.display());
    }
    let cuda = lib.join("libtorch_cuda.so");
    if cuda.exists() && [nvidia.join("cudnn"), lib.join("libcudnn.so.9")].iter().any(|cudnn| cudnn.exists()) {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,{},--as-needed", cuda.display());
    }
}
