//! Axes that are written in other ways, and wrong ones.

use super::*;

/// Keys of the command line are written as the file writes them.
#[test]
fn axes_of_the_command_line_may_be_quoted() {
    let place = place();
    let planned = place
        .tessera("plan", &["--set", "sweep.\"clusters.k\"=[7]", "--set", "sweep.'clusters.seed'=[1]", "--format", "json"]);
    assert!(planned.actions().contains(&"clusters@k=7,seed=1:run".to_owned()), "{}", planned.out);
}

#[test]
fn an_axis_without_a_stage_is_explained() {
    let place = Place::new();
    place.images(3);
    sweep(&place, "k = [2, 3]\n");
    let check = place.tessera("check", &[]);
    for said in [
        "`k` names no key of a stage",
        "[pipeline.toml:12:1]",
        "a sweep lists values for keys of stages: write stage and key, for example: \"clusters.k\" = ",
    ] {
        assert!(check.code == 2 && check.err.contains(said), "{said}: {}", check.err);
    }
}

#[test]
fn faults_of_a_sweep_as_they_are_shown() {
    let place = Place::new();
    place.images(3);
    sweep(&place, "\"clusters.k\" = [5, 0]\n\"clusters.seed\" = [1, 2, 3]\n\"feature.cell\" = [4]\n");
    let check = place.tessera("check", &[]);
    assert_eq!(check.code, 2);
    for expected in [
        "[pipeline.toml:12:20]",
        " 12 │ \"clusters.k\" = [5, 0]\n    ·                    ─",
        "the sweep names the unknown stage `feature`",
        "did you mean `features`?",
        "[pipeline.toml:14:1]",
        "2 faults in pipeline.toml",
    ] {
        assert!(check.err.contains(expected), "`{expected}` is not in:\n{}", check.err);
    }
    // What does not fit in one cell names it, and stands where the file says what it reads.
    sweep(&place, "decoded.side = [4, 32]\nclusters.k = [2, 3]\n");
    let check = place.tessera("check", &[]);
    assert!(check.code == 2 && check.err.contains("stage `features@side=4`"), "{}", check.err);
    assert!(check.err.contains("1 fault in"), "{}", check.err);
}
