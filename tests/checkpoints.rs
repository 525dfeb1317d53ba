//! What `torch.save` writes, as weights: which dictionary of a file is read, and that its bytes and that choice are in the key.

use std::io::Write as _;

use rawzip::ZipArchiveWriter;
use tessera_tests::Place;

/// Writes a file of two dictionaries, `student` and `teacher`, each with a matrix `w` of a row of two numbers.
fn checkpoint(place: &Place, student: [f32; 2], teacher: [f32; 2]) {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let dictionary = |key: &str| {
        let storage = [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(key), text("cpu"), b"K\x02tQ".to_vec()];
        let tensor =
            [&b"ctorch._utils\n_rebuild_tensor_v2\n(("[..], &storage.concat(), b"K\0K\x01K\x02\x86K\x02K\x01\x86\x89}tR"];
        [&b"}"[..], &text("w"), &tensor.concat(), b"s"].concat()
    };
    let entries = [text("student"), dictionary("0"), text("teacher"), dictionary("1"), text("epoch"), b"K\x07".to_vec()];
    let pickle = [&b"\x80\x02}("[..], &entries.concat(), b"u."].concat();
    let bytes = |numbers: [f32; 2]| numbers.map(f32::to_le_bytes).concat();
    let (student, teacher) = (bytes(student), bytes(teacher));
    archive(place, "w.pth", &[("w/data.pkl", &pickle), ("w/data/0", &student), ("w/data/1", &teacher)]);
}

/// Writes a zip archive of members that are stored as they are, as PyTorch's files are.
pub fn archive(place: &Place, name: &str, members: &[(&str, &[u8])]) {
    let mut archive = ZipArchiveWriter::new(std::fs::File::create(place.path(name)).unwrap());
    for (name, data) in members {
        let (mut entry, config) = archive.new_file(name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(data).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn the_dictionary_and_the_bytes_of_a_checkpoint_are_in_the_key() {
    let place = Place::new();
    place.write("pipeline.toml", "[stage]\nnet = { op = \"weights\", path = \"w.pth\", state = \"student\" }\n");
    checkpoint(&place, [1.0, 2.0], [3.0, 4.0]);
    let digest = || place.digests("pipeline")["net"].clone();
    let run = |set: &[&str]| place.tessera("run", &[&["--format", "json"][..], set].concat()).actions();
    assert_eq!(run(&[]), ["net:run"]);
    let student = digest();
    assert_eq!(run(&[]), ["net:reuse"]);
    assert_eq!(run(&["--set", "net.state=teacher"]), ["net:run"]);
    let teacher = digest();
    assert!(student != teacher);
    // The same file with its dictionaries exchanged is another one.
    checkpoint(&place, [3.0, 4.0], [1.0, 2.0]);
    assert_eq!(run(&[]), ["net:run"]);
    assert!(digest() == teacher);
    for (set, said) in [
        ("net.state=ema", "has no dictionary of tensors `ema`"),
        ("net.state=student.w", "state = \"…\", one of: `student`, `teacher`"),
    ] {
        let check = place.tessera("check", &["--set", set]);
        assert!(check.code == 2 && check.err.contains(said), "{}", check.err);
    }
    place.write("pipeline.toml", "[stage]\nnet = { op = \"weights\", path = \"w.pth\" }\n");
    let check = place.tessera("check", &[]);
    assert_eq!(check.code, 2, "{}", check.err);
    for said in ["stage `net`: ", "holds 2 dictionaries of tensors, and it is not said which", "[pipeline.toml:2:"] {
        assert!(check.err.contains(said), "{said}: {}", check.err);
    }
}
