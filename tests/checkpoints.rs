//! What `torch.save` writes, as weights: which dictionary of a file is read, and that its bytes and that choice are in the key.

use tessera_tests::Place;

use crate::made;

/// Writes a file of two dictionaries, `student` and `teacher`, each with a matrix `w` of a row of two numbers.
fn checkpoint(place: &Place, student: [f32; 2], teacher: [f32; 2]) {
    let matrix = |key| made::dictionary(&[("w", made::tensor("FloatStorage", key, 2, [&[0], &[1, 2], &[2, 1]]))]);
    let words = made::dictionary(&[("student", matrix("0")), ("teacher", matrix("1")), ("epoch", b"K\x07".to_vec())]);
    let bytes = |numbers: [f32; 2]| numbers.map(f32::to_le_bytes).concat();
    place.write("w.pth", made::file(&words, &[("0", &bytes(student)), ("1", &bytes(teacher))]));
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
