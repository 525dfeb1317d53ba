//! A full or broken disk at any write: the run says so and ends, nothing published is harmed, and the next run goes on.

use std::fs;
use std::process::Command;

use tessera_tests::{Answer, Place, clustered, run};

/// Many small parts: many writes.
fn file() -> String {
    clustered(2, true)
}

fn faulty(place: &Place, fault: &str) -> Answer {
    let mut command = place.command("run", "pipeline.toml", &["-q"]);
    command.env("TESSERA_FAULT", fault);
    run(command)
}

/// A store of twelve images whose sizes and times never change, and what a run over more images gives.
fn begun(place: &Place) {
    place.images(12).write("pipeline.toml", file());
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    fs::rename(place.path(".tessera"), place.path("begun")).unwrap();
    place.images(16);
}

/// Sets the store back.
fn set_back(place: &Place) {
    let _ = fs::remove_dir_all(place.path(".tessera"));
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(place.path("begun")).arg(place.path(".tessera"));
    assert!(copy.status().unwrap().success());
}

/// Has each of these writes fail, from the start of a store or within one.
fn each(fresh: bool, faults: impl IntoIterator<Item = String>) -> usize {
    let place = Place::new();
    begun(&place);
    assert_eq!(place.tessera("run", &["-q"]).code, 0);
    let undisturbed = place.digests("pipeline");
    assert_eq!(undisturbed.len(), 5);
    let mut failed = 0;
    for fault in faults {
        if fresh {
            let _ = fs::remove_dir_all(place.path(".tessera"));
        } else {
            set_back(&place);
        }
        let before = place.digests("pipeline");
        let answer = faulty(&place, &fault);
        assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{fault}: {}", answer.err);
        let said = if fault.starts_with("eio") { "Input/output error" } else { "No space left on device" };
        assert!(answer.err.contains(said) && answer.err.contains("/.tessera"), "{fault}: {}", answer.err);
        let folder = answer.err.contains("cannot make the folder ");
        assert!(answer.err.contains(" bytes") || folder, "{fault}: {}", answer.err);
        assert!(!answer.err.contains("panicked"), "{fault}: {}", answer.err);
        // Each table is what it was or what it will be, whole.
        for (stage, digest) in place.digests("pipeline") {
            assert!(before.get(&stage) == Some(&digest) || undisturbed[&stage] == digest, "{fault}: {stage}");
        }
        let answer = place.tessera("run", &["-q"]);
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{fault}");
        assert_eq!(place.digests("pipeline"), undisturbed, "{fault}");
        assert_eq!(place.tessera("gc", &["--keep-runs", "0", "--delete"]).code, 0, "{fault}");
        assert_eq!(place.strays("pipeline"), [""; 0], "{fault}");
        failed += 1;
    }
    failed
}

#[test]
fn some_writes_that_fail() {
    each(true, ["enospc:1+", "enospc:3", "enospc:29+", "eio:58"].map(String::from));
    each(false, ["enospc:2", "enospc:40+", "eio:77"].map(String::from));
}

#[test]
#[ignore = "minutes: each of the first 100 writes, of a new store and of one that grows, alone and with all that follow"]
fn every_write_that_fails() {
    for fresh in [true, false] {
        for onwards in ["", "+"] {
            let count = each(fresh, (1..=100).map(|at| format!("enospc:{at}{onwards}")));
            println!("fresh: {fresh}, enospc:N{onwards}: {count} runs failed cleanly and were completed by the next");
        }
    }
}

#[test]
fn a_wrong_fault_is_no_silent_one() {
    let place = Place::new();
    place.images(3).write("pipeline.toml", file());
    let answer = faulty(&place, "full:3");
    assert!(answer.code == 1 && answer.err.contains("TESSERA_FAULT should look like"), "{}", answer.err);
}
