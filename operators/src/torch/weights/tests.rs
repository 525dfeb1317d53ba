//! Files are made here.

mod saved;

use arrow::array::RecordBatch;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

use super::*;
use crate::operator::At;
use crate::tensor_file::{Layout, Tensor, entries};
use crate::trial;

struct Disk;
impl Files for Disk {
    fn list(&self, root: &Path) -> Result<Listed, tessera_datasets::Error> {
        tessera_datasets::local::LocalFiles.list(root)
    }
    fn read(&self, path: &Path) -> Result<Vec<u8>, tessera_datasets::Error> {
        std::fs::read(path).map_err(|source| tessera_datasets::Error::Io { path: path.to_owned(), source })
    }
    fn read_range(&self, path: &Path, _: u64, _: u64) -> Result<Vec<u8>, tessera_datasets::Error> {
        self.read(path)
    }
}

fn bind(base: &Path, config: serde_json::Value) -> Result<Weights, Vec<BindError>> {
    trial::bind_in(base, config, &[])
}

fn source(weights: Weights, seed: u64) -> Box<dyn Source> {
    weights.kernel(&Context { base: "/base".into(), ..trial::context(seed, 1) }).unwrap()
}

fn read(source: &dyn Source) -> Result<Vec<RecordBatch>, RunError> {
    let mut batches = Vec::new();
    source.read(&Disk, &[], &mut |found| {
        batches.push(found.rows);
        Ok(())
    })?;
    Ok(batches)
}

#[test]
fn a_file_becomes_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = [
        ("b.weight", TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap()),
        ("a.steps", TensorView::new(Dtype::I64, vec![], &bytes[..8]).unwrap()),
    ];
    std::fs::write(folder.path().join("w.safetensors"), serialize(tensors, None).unwrap()).unwrap();
    let config = json!({"path": "w.safetensors", "mean": [0.4, 0.5, 0.6], "deviation": [0.2, 0.2, 0.2]});
    let weights = bind(folder.path(), config).unwrap();
    let network = table::network(&weights.schema()).unwrap();
    assert_eq!((network.name.as_deref(), network.mean), (None, Some([0.4, 0.5, 0.6])));
    let notes = weights.notes().unwrap();
    let known = Name::known();
    let note = format!(
        "the file does not say which network its tensors are of; none of {known} has such tensors (`a.steps`, `b.weight`): {OTHERS}"
    );
    assert_eq!(notes, [note]);
    let source = source(weights, 1);
    assert_eq!((source.root(), source.list(&Disk).unwrap().files[0].path.as_ref()), (folder.path(), "w.safetensors"));
    let batches = read(&*source).unwrap();
    let rows = table::rows(&batches[0]).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(rows[0], Weight { tensor: "a.steps", shape: vec![], dtype: "I64", data: &bytes[..8] });
    assert_eq!(rows[1], Weight { tensor: "b.weight", shape: vec![2, 2], dtype: "F32", data: &bytes });
}

/// Writes a file of tensors of zeros.
fn write(path: &Path, tensors: &[(String, &str, Vec<usize>)], said: &table::Network) {
    let tensor = |(name, dtype, shape): &(String, &str, Vec<usize>)| Tensor {
        name: name.clone(),
        dtype: (*dtype).to_owned(),
        shape: shape.iter().map(|&side| side as u64).collect(),
    };
    let layout = Layout::new(&tensors.iter().map(tensor).collect::<Vec<_>>(), &entries(said)).unwrap();
    let mut bytes = layout.head;
    bytes.resize(layout.length as usize, 0);
    std::fs::write(path, bytes).unwrap();
}

/// The tensors of a network as a classifier of seven classes.
fn tensors_of(name: Name) -> Vec<(String, &'static str, Vec<usize>)> {
    let parameters = name.network().classifier([64; 2], 7).parameters().unwrap();
    parameters.into_iter().map(|parameter| (parameter.name, "F32", parameter.shape)).collect()
}

fn small_by_tiles() -> table::Network {
    table::Network { name: Some("small".to_owned()), normalisation: Some("tile".to_owned()), ..table::Network::default() }
}

#[test]
fn a_file_says_what_export_wrote_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    write(&path, &tensors_of(Name::Small), &small_by_tiles());
    let bound = |more: serde_json::Value| {
        let mut config = json!({"path": "w.safetensors"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bind(folder.path(), config)
    };
    let alone = bound(json!({})).unwrap();
    assert_eq!(table::network(&alone.schema()).unwrap(), small_by_tiles());
    assert_eq!(alone.notes().unwrap(), [""; 0]);
    let spelled = bound(json!({"network": "small", "normalisation": "tile"})).unwrap();
    assert_eq!(alone.settled(), spelled.settled(), "the same key");
    for (more, key, message) in [
        (json!({"network": "medium"}), "network", "is `medium`, and the file says that its tensors are of `small`"),
        (
            json!({"normalisation": "none"}),
            "normalisation",
            "normalised otherwise for its network: normalisation = \"tile\"",
        ),
        (json!({"mean": [0.4, 0.4, 0.4], "deviation": [0.2, 0.2, 0.2]}), "mean", "normalised otherwise"),
    ] {
        let fault = bound(more).unwrap_err().remove(0);
        assert!(fault.at == At::Key(key.to_owned()) && fault.message.contains(message), "{fault:?}");
    }
    // Without the entries, the keys say it; a name that is nobody's here says nothing.
    let foreign = table::Network { name: Some("my-best-run".to_owned()), ..table::Network::default() };
    write(&path, &tensors_of(Name::Small), &foreign);
    let notes = bound(json!({})).unwrap().notes().unwrap();
    assert!(notes[0].ends_with("they are those of `small`: network = \"small\"") && notes.len() == 2, "{notes:?}");
    assert!(notes[1].contains("normalisation = \"tile\"") && notes[1].contains("0.485"), "{notes:?}");
    let said = bound(json!({"network": "small", "normalisation": "tile"})).unwrap();
    assert_eq!(table::network(&said.schema()).unwrap(), small_by_tiles());
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_not_taken_for_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    write(&path, &tensors_of(Name::Small), &small_by_tiles());
    let source = source(bind(folder.path(), json!({"path": "w.safetensors"})).unwrap(), 1);
    assert!(read(&*source).is_ok());
    write(&path, &tensors_of(Name::Small), &table::Network::default());
    let error = read(&*source).unwrap_err().to_string();
    assert!(error.ends_with("was replaced by another while the pipeline was checked: run again"), "{error}");
}

#[test]
fn tensors_of_others_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let fault = |tensors: &[(String, &str, Vec<usize>)], network: &str| {
        write(&path, tensors, &table::Network::default());
        let fault = bind(folder.path(), json!({"path": "w.safetensors", "network": network})).unwrap_err().remove(0);
        assert_eq!(fault.at, At::Key("path".to_owned()));
        (fault.message, fault.help.unwrap())
    };
    let small = tensors_of(Name::Small);
    let (message, help) = fault(&tensors_of(Name::Resnet18), "small");
    assert!(message.starts_with("the file's tensors are not those of `small`: `conv1.weight` should be "), "{message}");
    assert!(message.contains("found 64x3x7x7; ") && message.contains(" more; it has `bn1.bias`, "), "{message}");
    assert_eq!(help, "they are those of `resnet18`: network = \"resnet18\"");
    let mut odd = small.clone();
    let at = odd.iter().position(|tensor| tensor.0 == "conv3.weight").unwrap();
    odd[at].1 = "I8";
    let (message, _) = fault(&odd, "small");
    assert!(message.contains("`conv3.weight` is of type I8, and F32, F16, BF16, F64 can be used; it has "), "{message}");
    odd.remove(at);
    assert!(fault(&odd, "small").0.contains("those of `small`: there is no `conv3.weight` ("));
    // More than the network's, and halves, are fine.
    let mut more = small;
    more.iter_mut().for_each(|tensor| tensor.1 = "F16");
    more.push(("bn1.num_batches_tracked".to_owned(), "I64", Vec::new()));
    write(&path, &more, &table::Network::default());
    assert!(bind(folder.path(), json!({"path": "w.safetensors", "network": "small"})).is_ok());
    // Each network's own tensors are its own, and of no other.
    for &name in Name::ALL.iter().filter(|name| !matches!(name, Name::Vgg16 | Name::Vgg16Bn)) {
        write(&path, &tensors_of(name), &table::Network::default());
        let notes = bind(folder.path(), json!({"path": "w.safetensors"})).unwrap().notes().unwrap();
        assert!(notes[0].ends_with(&format!("network = \"{}\"", name.text())), "{notes:?}");
    }
}

/// As wrappers and self-supervised methods leave them: `module.`, `backbone.`, `module.encoder_q.`, beside other tensors.
#[test]
fn what_names_begin_with_is_left_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let small = tensors_of(Name::Small);
    for prefix in ["module.", "model.", "backbone.", "module.encoder_q."] {
        let mut wrapped: Vec<_> =
            small.iter().map(|(name, dtype, shape)| (format!("{prefix}{name}"), *dtype, shape.clone())).collect();
        wrapped.push(("queue".to_owned(), "F32", vec![4, 2]));
        wrapped.push(("module.encoder_k.conv1.weight".to_owned(), "F32", vec![1]));
        write(&path, &wrapped, &table::Network::default());
        let weights = bind(folder.path(), json!({"path": "w.safetensors", "network": "small"})).unwrap();
        let notes = weights.notes().unwrap();
        assert!(notes[0].starts_with(&format!("the tensors' names begin with `{prefix}` in the file")), "{notes:?}");
        assert!(notes[0].contains("`queue`"), "{notes:?}");
        let batches = read(&*source(weights, 1)).unwrap();
        let mut names: Vec<String> =
            batches.iter().flat_map(|batch| table::rows(batch).unwrap()).map(|row| row.tensor.to_owned()).collect();
        names.retain(|name| !name.starts_with("encoder_k."));
        let mut expected: Vec<String> = small.iter().map(|tensor| tensor.0.clone()).collect();
        expected.sort();
        assert_eq!(names, expected, "{prefix}");
        let notes = bind(folder.path(), json!({"path": "w.safetensors"})).unwrap().notes().unwrap();
        assert!(notes[0].ends_with("network = \"small\""), "{notes:?}");
    }
}

#[test]
fn values_that_are_no_numbers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for (dtype, bytes) in [
        (Dtype::F32, f32::NAN.to_le_bytes().to_vec()),
        (Dtype::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (Dtype::F64, f64::NAN.to_le_bytes().to_vec()),
        (Dtype::BF16, vec![0xc0, 0x7f]),
        (Dtype::F16, vec![0x00, 0x7c]),
        (Dtype::F16, vec![0x01, 0xfe]),
    ] {
        let data = [vec![0; bytes.len()], bytes].concat();
        let view = TensorView::new(dtype, vec![2], &data).unwrap();
        std::fs::write(&path, serialize([("a.weight", view)], None).unwrap()).unwrap();
        let weights = bind(folder.path(), json!({"path": "w.safetensors"})).unwrap();
        let error = read(&*source(weights, 1)).unwrap_err().to_string();
        assert!(error.contains("its tensor `a.weight` has the value ") && error.contains("w.safetensors"), "{error}");
    }
    let fine = [f32::MAX.to_le_bytes(), f32::MIN_POSITIVE.to_le_bytes()].concat();
    let view = TensorView::new(Dtype::F32, vec![2], &fine).unwrap();
    std::fs::write(&path, serialize([("a.weight", view)], None).unwrap()).unwrap();
    assert!(read(&*source(bind(folder.path(), json!({"path": "w.safetensors"})).unwrap(), 1)).is_ok());
}

#[test]
fn a_file_of_another_kind_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, message, help) in [
        (&b"PK\x03\x04 archive/data.pkl"[..], "w.pth is no sound file of `torch.save`'s: ", "fetch it anew"),
        (b"PK\x03\x04 archive/constants.pkl", "w.pth is a TorchScript model", "model = "),
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
            "w.pth is a file that `torch.save` wrote before",
            "w.pth\", map_location",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "w.pth is what Git LFS keeps", "`git lfs pull` fetches it"),
        (b"<html>", "w.pth is a web page", "fetch it anew"),
        (b"\x10\0\0\0\0\0\0\0{}", "w.pth has 10 bytes, and its header speaks of 24", "it was cut off"),
    ] {
        std::fs::write(folder.path().join("w.pth"), bytes).unwrap();
        let fault = bind(folder.path(), json!({"path": "w.pth", "network": "small"})).unwrap_err().remove(0);
        assert_eq!(fault.at, At::Key("path".to_owned()));
        assert!(fault.message.contains(message) && fault.help.unwrap().contains(help), "{}", fault.message);
    }
}

#[test]
fn without_a_file_the_seed_decides() {
    let of = |config: serde_json::Value, seed| {
        let source = source(bind(Path::new("/base"), config).unwrap(), seed);
        assert_eq!((source.list(&Disk).unwrap(), source.root()), (Listed::default(), Path::new("/base")));
        read(&*source).unwrap()
    };
    let small = json!({"network": "small", "normalisation": "tile"});
    assert_eq!(of(small.clone(), 1), of(small.clone(), 1));
    assert_ne!(of(small.clone(), 1), of(small.clone(), 2));
    let batches = of(small, 1);
    let network = table::network(batches[0].schema_ref()).unwrap();
    assert_eq!((network.name.as_deref(), network.normalisation.as_deref()), (Some("small"), Some("tile")));
    let names = |batches: &[RecordBatch]| {
        let rows = batches.iter().flat_map(|batch| table::rows(batch).unwrap().into_iter().map(|row| row.tensor.to_owned()));
        rows.collect::<Vec<_>>()
    };
    assert!(names(&batches).contains(&"conv5.weight".to_owned()) && !names(&batches).contains(&"fc.weight".to_owned()));
    let whole = of(json!({"network": "small", "classes": 7}), 1);
    assert!(names(&whole).contains(&"fc.weight".to_owned()));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let faults = bind(Path::new("/nowhere"), json!({"path": "w", "mean": [100.0, 0.0, 0.0]})).unwrap_err();
    let at: Vec<_> = faults.iter().map(|fault| fault.at.clone()).collect();
    assert_eq!(at, [At::Key("mean".into()), At::Key("mean".into()), At::Key("path".into())], "{faults:?}");
    let faults = bind(Path::new("/nowhere"), json!({"path": "w", "deviation": [1.0, 0.0, 1.0]})).unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
    let fault = |config| bind(Path::new("/nowhere"), config).unwrap_err().remove(0);
    assert!(fault(json!({})).help.unwrap().contains("one of: alexnet, "));
    assert_eq!(fault(json!({"network": "small", "classes": 0})).at, At::Key("classes".into()));
    assert_eq!(fault(json!({"path": "w", "classes": 2})).at, At::Key("classes".into()));
    assert_eq!(fault(json!({"network": "small", "normalisation": "image"})).at, At::Key("normalisation".into()));
}
