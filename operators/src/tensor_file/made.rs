//! Files that tests make, as PyTorch makes them: what `torch.save` writes, and TorchScript.

use std::io::Write as _;

use rawzip::ZipArchiveWriter;

/// A pickle's words for a whole number.
fn int(number: u32) -> Vec<u8> {
    [&b"J"[..], &number.to_le_bytes()].concat()
}

/// A pickle's words for text.
pub fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn ints(numbers: &[u32]) -> Vec<u8> {
    [&b"("[..], &numbers.iter().flat_map(|&number| int(number)).collect::<Vec<u8>>(), b"t"].concat()
}

/// A pickle's words for a tensor in a storage of that type and key, of so many values: its first value's place, shape and strides.
pub fn tensor(of: &str, key: &str, count: u32, [offset, shape, strides]: [&[u32]; 3]) -> Vec<u8> {
    let storage = [text("storage"), format!("ctorch\n{of}\n").into_bytes(), text(key), text("cpu"), int(count)].concat();
    let parts = [int(offset[0]), ints(shape), ints(strides)].concat();
    let hooks = &b"\x89ccollections\nOrderedDict\n)R"[..];
    [&b"ctorch._utils\n_rebuild_tensor_v2\n(("[..], &storage, b"tQ", &parts, hooks, b"tR"].concat()
}

/// A pickle's words for a dictionary.
pub fn dictionary<N: AsRef<str>>(entries: &[(N, Vec<u8>)]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|(name, value)| [text(name.as_ref()), value.clone()].concat());
    [&b"ccollections\nOrderedDict\n)R("[..], &entries.collect::<Vec<u8>>(), b"u"].concat()
}

/// An archive of members that are stored as they are.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, data) in members {
        let (mut entry, config) = archive.new_file(name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(data).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// A file of a pickle with what those words say, and of storages by their keys.
pub fn file(words: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let pickle = [&b"\x80\x02"[..], words, b"."].concat();
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("w/data/{key}")).collect();
    let mut members = vec![("w/data.pkl", &pickle[..]), ("w/byteorder", b"little")];
    members.extend(names.iter().zip(storages).map(|(name, (_, data))| (name.as_str(), *data)));
    members.push(("w/version", b"3\n"));
    archive(&members)
}

/// A TorchScript model whose `forward` is that code: its arguments and its body, such as `"x: Tensor) -> Tensor:\n    return x"`.
pub fn script(forward: &str) -> Vec<u8> {
    let code = format!(
        "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n  def forward(self: __torch__.M,\n    {forward}\n"
    );
    let object = b"\x80\x02c__torch__\nM\n)\x81}X\x08\0\0\0training\x89sb.";
    archive(&[
        ("m/data.pkl", object),
        ("m/code/__torch__.py", code.as_bytes()),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/version", b"3\n"),
        ("m/byteorder", b"little"),
    ])
}
