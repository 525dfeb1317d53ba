//! What `torch.save` writes, as weights.

use super::*;
use crate::tensor_file::made;

/// What `torch.save` writes of a network's tensors: each a storage, of 32-bit zeros but for its first value.
fn saved(tensors: &[(String, &str, Vec<usize>)], first: f32) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let (mut words, mut storages) = (Vec::new(), Vec::new());
    for (at, (name, _, shape)) in tensors.iter().enumerate() {
        let count: usize = shape.iter().product();
        let mut data = vec![0; count * 4];
        data[..4].copy_from_slice(&first.to_le_bytes());
        let shape: Vec<u32> = shape.iter().map(|&side| side as u32).collect();
        let strides: Vec<u32> = (1..=shape.len()).map(|at| shape[at..].iter().product()).collect();
        let parts = [&[0][..], &shape, &strides];
        words.push((name.clone(), made::tensor("FloatStorage", &at.to_string(), count as u32, parts)));
        storages.push((at.to_string(), data));
    }
    (made::dictionary(&words), storages)
}

fn written(path: &Path, words: &[u8], storages: &[(String, Vec<u8>)]) {
    let storages: Vec<(&str, &[u8])> = storages.iter().map(|(key, data)| (key.as_str(), &data[..])).collect();
    std::fs::write(path, made::file(words, &storages)).unwrap();
}

/// The same tensors in either kind of file give the same table.
#[test]
fn what_torch_save_writes_is_read_as_safetensors_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors_of(Name::Small);
    tensors.iter_mut().for_each(|tensor| tensor.0.insert_str(0, "module."));
    write(&folder.path().join("w.safetensors"), &tensors, &table::Network::default());
    let (words, storages) = saved(&tensors, 0.0);
    written(&folder.path().join("w.pth"), &words, &storages);
    let rows = |path: &str| {
        let config = json!({"path": path, "network": "small", "normalisation": "tile"});
        let weights = bind(folder.path(), config).unwrap();
        assert!(weights.notes().unwrap()[0].starts_with("the tensors' names begin with `module.` in the file"));
        read(&*source(weights, 1)).unwrap()
    };
    assert_eq!(rows("w.pth"), rows("w.safetensors"));
    let (words, storages) = saved(&tensors, f32::NAN);
    written(&folder.path().join("w.pth"), &words, &storages);
    let weights = bind(folder.path(), json!({"path": "w.pth", "network": "small"})).unwrap();
    let error = read(&*source(weights, 1)).unwrap_err().to_string();
    assert!(error.contains("its tensor `module.") && error.contains(" has the value NaN"), "{error}");
    let (words, storages) = saved(&tensors_of(Name::Resnet18)[..9], 0.0);
    written(&folder.path().join("w.pth"), &words, &storages);
    let fault = bind(folder.path(), json!({"path": "w.pth", "network": "small"})).unwrap_err().remove(0);
    assert!(
        fault.message.starts_with("the file's tensors are not those of `small`: `conv1.weight` should be "),
        "{fault:?}"
    );
}

/// Which dictionary is read is in the key, whether it was named or is the only one.
#[test]
fn a_dictionary_of_several_is_chosen_and_in_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tensors_of(Name::Small);
    let (student, storages) = saved(&tensors, 1.0);
    let teacher = made::dictionary(&[("conv1.bias", made::tensor("FloatStorage", "0", 4, [&[0], &[2, 1], &[1, 1]]))]);
    let both = made::dictionary(&[("student", student.clone()), ("teacher", teacher)]);
    written(&folder.path().join("both.pth"), &both, &storages);
    written(&folder.path().join("one.pth"), &made::dictionary(&[("state_dict", student)]), &storages);
    let key = |config: serde_json::Value| -> Result<_, Vec<BindError>> {
        let weights = bind(folder.path(), config)?;
        Ok(weights.settled().into_iter().find(|(key, _)| *key == "state").map(|(_, state)| state))
    };
    let one = key(json!({"path": "one.pth", "network": "small"}));
    assert_eq!(one, Ok(Some(json!("state_dict"))));
    assert_eq!(one, key(json!({"path": "one.pth", "network": "small", "state": "state_dict"})));
    assert_eq!(key(json!({"path": "both.pth", "state": "teacher"})), Ok(Some(json!("teacher"))));
    let weights = bind(folder.path(), json!({"path": "both.pth", "state": "teacher"})).unwrap();
    let batches = read(&*source(weights, 1)).unwrap();
    assert_eq!(table::rows(&batches[0]).unwrap().iter().map(|row| row.tensor).collect::<Vec<_>>(), ["conv1.bias"]);
    assert!(key(json!({"path": "both.pth", "state": "student", "network": "small"})).is_ok());
    let fault = |config: serde_json::Value| {
        let fault: BindError = key(config).unwrap_err().remove(0);
        (fault.at, format!("{} | {}", fault.message, fault.help.unwrap()))
    };
    let at = |key: &str| At::Key(key.to_owned());
    for (config, place, said) in [
        (json!({"path": "both.pth"}), at("path"), "holds 2 dictionaries of tensors, and it is not said which"),
        (json!({"path": "both.pth"}), at("path"), "| state = \"…\", one of: `student`, `teacher`"),
        (json!({"path": "both.pth", "state": "ema"}), at("state"), "has no dictionary of tensors `ema` | state = "),
        (json!({"path": "both.pth", "state": "teacher", "network": "small"}), at("path"), "are not those of `small`"),
        (json!({"network": "small", "state": "teacher"}), at("state"), "and there is no `path` | remove the key"),
    ] {
        let (found, message) = fault(config);
        assert!(found == place && message.contains(said), "{found:?} {message}");
    }
    write(&folder.path().join("w.safetensors"), &tensors, &small_by_tiles());
    assert_eq!(key(json!({"path": "w.safetensors"})), Ok(None));
    let (found, message) = fault(json!({"path": "w.safetensors", "state": "teacher"}));
    assert!(
        found == at("state") && message.contains("no dictionaries of tensors to choose from | remove the key"),
        "{message}"
    );
}

/// What lies among the tensors is told of, and named where a network needs it.
#[test]
fn what_is_no_tensor_is_left_out_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.pth");
    let two = || made::tensor("FloatStorage", "0", 2, [&[0], &[1, 2], &[2, 1]]);
    let words = made::dictionary(&[("a.weight", two()), ("conv1.weight", b"cnumpy\nndarray\n)R".to_vec())]);
    written(&path, &words, &[("0".to_owned(), vec![0; 8])]);
    let notes = bind(folder.path(), json!({"path": "w.pth"})).unwrap().notes().unwrap();
    let note = "the file also holds what is no tensor that can be read, which is left out: `conv1.weight`, an object that `numpy.ndarray` makes";
    assert_eq!(notes[0], note);
    let fault = bind(folder.path(), json!({"path": "w.pth", "network": "small"})).unwrap_err().remove(0);
    assert!(fault.message.contains("`conv1.weight` is an object that `numpy.ndarray` makes"), "{}", fault.message);
}
