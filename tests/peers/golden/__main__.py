"""The golden values of Tessera's unit tests, as the libraries print them that the tests name.

    pip install numpy==2.4.6 pillow==13.0.0 scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.17.1
    pip install torch==2.11.0 torchvision==0.26.0
    python tests/peers/golden                  # prints all constants, in the form in which the tests hold them
    python tests/peers/golden hog layers       # those of some modules alone
    python tests/peers/golden --check          # compares them with the Rust sources; exit status 1 if one differs
    python tests/peers/golden --versions       # of the libraries

Each module beside this file names its library, and yields `Golden`s: a source file, the text before a constant, the constant, and
how far a number of it may be from the library's. CUDA is not used; any build of PyTorch of that version serves.
"""

import argparse, importlib, importlib.metadata, pathlib, sys

from rust import Sources

MODULES = ["colours", "crops", "hog", "logistic", "pca", "labellings", "optimizers", "losses", "layers", "parameters", "checkpoints"]
LIBRARIES = ["numpy", "pillow", "scikit-image", "scikit-learn", "scipy", "torch", "torchvision"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}; all by default")
    parser.add_argument("--check", action="store_true", help="compare with the Rust sources instead of printing")
    parser.add_argument("--versions", action="store_true", help="print the libraries' versions")
    a = parser.parse_args()
    unknown = [name for name in a.modules if name not in MODULES]
    if unknown:
        parser.error(f"there is no module {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if a.versions:
        for library in LIBRARIES:
            print(library, importlib.metadata.version(library))
        return
    sources = Sources(pathlib.Path(__file__).resolve().parents[3])
    wrong = 0
    for name in a.modules or MODULES:
        for golden in importlib.import_module(name).goldens():
            if not a.check:
                print(f"// {golden.file}\n{golden.before} {golden.text}\n")
                continue
            fault, said = sources.check(golden)
            wrong += fault
            print(f"{'differs' if fault else 'ok':8}{name:12}{golden.file}: {said}", flush=True)
    if wrong:
        sys.exit(f"{wrong} constants are not what the libraries print")


if __name__ == "__main__":
    main()
