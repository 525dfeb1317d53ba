//! The order in which stages can run.

use super::inputs::Input;
use crate::declare::faults::Fault;
use crate::declare::file::PipelineFile;

/// Stages in an order in which each stands behind its inputs; of those that could stand anywhere, as in the file.
pub fn order(file: &PipelineFile, inputs: &[Vec<Input>], faults: &mut Vec<Fault>) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    struct Walk<'a> {
        file: &'a PipelineFile,
        inputs: &'a [Vec<Input>],
        marks: Vec<Mark>,
        path: Vec<usize>,
        order: Vec<usize>,
        faults: &'a mut Vec<Fault>,
    }
    impl Walk<'_> {
        fn visit(&mut self, stage: usize) {
            self.marks[stage] = Mark::Open;
            self.path.push(stage);
            for input in &self.inputs[stage] {
                match self.marks[input.from] {
                    Mark::New => self.visit(input.from),
                    Mark::Done => {}
                    Mark::Open => {
                        let start = self.path.iter().position(|&s| s == input.from).unwrap_or(0);
                        let mut names: Vec<&str> =
                            self.path[start..].iter().rev().map(|&s| self.file.stages[s].name.text.as_str()).collect();
                        names.insert(0, &self.file.stages[input.from].name.text);
                        let message = format!("stages read each other in a circle: {}", names.join(" -> "));
                        self.faults.push(
                            Fault::new(input.span.clone(), message)
                                .help("each arrow points to a stage that reads the one before it"),
                        );
                    }
                }
            }
            self.path.pop();
            self.marks[stage] = Mark::Done;
            self.order.push(stage);
        }
    }
    let marks = vec![Mark::New; file.stages.len()];
    let mut walk = Walk { file, inputs, marks, path: Vec::new(), order: Vec::new(), faults };
    for stage in 0..file.stages.len() {
        if walk.marks[stage] == Mark::New {
            walk.visit(stage);
        }
    }
    walk.order
}
