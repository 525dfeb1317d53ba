//! The inputs of a stage: names of the file resolved to ports of its operator and to stages.

use std::ops::Range;

use tessera_operators::operator::{Port, PortKind};
use tessera_operators::spec::Spec;

use crate::declare::faults::Fault;
use crate::declare::file::{Declaration, PipelineFile, Text};

/// An input whose port and stage are known.
pub struct Input {
    /// Its name in the stage.
    pub name: String,
    /// The operator's port.
    pub port: &'static Port,
    /// The stage that it reads, as a place in the file's list.
    pub from: usize,
    /// Where the file says so.
    pub span: Range<usize>,
}

/// A stage whose inputs are resolved.
struct Of<'a> {
    file: &'a PipelineFile,
    stage: &'a Declaration,
    spec: &'static dyn Spec,
}

/// An input as it is written: under a name, or as the only one; and the stage that it reads.
type Written<'a> = (Option<&'a Text>, &'a Text);

/// The inputs of one stage. What cannot be resolved is left out, and told.
pub fn resolve(file: &PipelineFile, stage: &Declaration, spec: &'static dyn Spec, faults: &mut Vec<Fault>) -> Vec<Input> {
    let of = Of { file, stage, spec };
    faults.extend(of.twice());
    let mut found = Vec::new();
    for written in of.written() {
        let from = of.stage(written.1).map_err(|fault| faults.push(fault));
        let port = of.port(written).map_err(|fault| faults.push(fault));
        if let (Ok(from), Ok((name, port))) = (from, port) {
            found.push(Input { name, port, from, span: written.1.span.clone() });
        }
    }
    faults.extend(of.missing());
    found
}

impl<'a> Of<'a> {
    /// What the file writes.
    fn written(&self) -> Vec<Written<'a>> {
        let named = self.stage.inputs.iter().map(|(input, from)| (Some(input), from));
        named.chain(self.stage.input.iter().map(|from| (None, from))).collect()
    }

    fn fault(&self, span: &Range<usize>, message: String) -> Fault {
        let name = &self.stage.name.text;
        Fault::new(span.clone(), format!("stage `{name}`{message}")).of(name)
    }

    /// Complains of two ways of writing inputs in one stage.
    fn twice(&self) -> Option<Fault> {
        let input = self.stage.input.as_ref().filter(|_| !self.stage.inputs.is_empty())?;
        let fault = self.fault(&input.span, " has both `input` and `inputs`".to_owned());
        Some(fault.help("write all of them in `inputs = { … }`"))
    }

    /// The stage of a name.
    fn stage(&self, from: &Text) -> Result<usize, Fault> {
        let found = self.file.stages.iter().position(|other| other.name.text == from.text);
        found.ok_or_else(|| {
            let others = self.file.stages.iter().map(Declaration::base).filter(|other| *other != self.stage.base());
            let mut names: Vec<&str> = others.collect();
            names.dedup();
            let fault = self.fault(&from.span, format!(": unknown input stage `{}`", from.text));
            fault.known(&from.text, names)
        })
    }

    /// The port that an input goes to, and its name in the stage.
    fn port(&self, (input, from): Written<'_>) -> Result<(String, &'static Port), Fault> {
        let ports = self.spec.inputs();
        match (self.any_names(), input) {
            (Some(port), input) => Ok((input.unwrap_or(from).text.clone(), port)),
            (None, Some(input)) => {
                let port = ports.iter().find(|port| port.name == input.text);
                port.map(|port| (input.text.clone(), port)).ok_or_else(|| {
                    let message = format!(": `{}` has no input `{}`", self.spec.name(), input.text);
                    self.fault(&input.span, message).help(self.known())
                })
            }
            (None, None) => self.only().ok_or_else(|| {
                let what = if ports.is_empty() { "takes no input" } else { "needs its inputs by name" };
                self.fault(&from.span, format!(": `{}` {what}", self.spec.name())).help(self.known())
            }),
        }
    }

    /// The port of an operator that reads any stages, by names of the user's choice.
    fn any_names(&self) -> Option<&'static Port> {
        match self.spec.inputs() {
            [port] if port.kind == PortKind::Named => Some(port),
            _ => None,
        }
    }

    /// The port that an input without a name goes to: the only one that has to have an input; where none has to, the first, which is
    /// what is mostly meant.
    fn only(&self) -> Option<(String, &'static Port)> {
        let ports = self.spec.inputs();
        let mut required = ports.iter().filter(|port| port.required);
        let port = match (required.next(), required.next()) {
            (Some(port), None) => Some(port),
            (None, _) => ports.first(),
            (Some(_), Some(_)) => None,
        };
        port.map(|port| (port.name.to_owned(), port))
    }

    /// Complains of each port that has to have an input and has none.
    fn missing(&self) -> Vec<Fault> {
        let Declaration { name, input, inputs, .. } = self.stage;
        let is_given = |port: &Port| {
            input.is_some() || inputs.iter().any(|(input, _)| input.text == port.name || port.kind == PortKind::Named)
        };
        let lacking = self.spec.inputs().iter().filter(|port| port.required && !is_given(port));
        let what = |port: &Port| match port.kind {
            PortKind::Named => "an input".to_owned(),
            _ => format!("its input `{}`", port.name),
        };
        lacking.map(|port| self.fault(&name.span, format!(" lacks {}", what(port))).help(self.known())).collect()
    }

    /// What the operator reads, in words.
    fn known(&self) -> String {
        let (name, ports) = (self.spec.name(), self.spec.inputs());
        if ports.is_empty() {
            return format!("`{name}` reads no other stage");
        }
        if self.any_names().is_some() {
            return format!("`{name}` reads any stages, by names of your choice");
        }
        let one = |port: &Port| format!("{}{}", port.name, if port.required { "" } else { " (optional)" });
        format!("inputs of `{name}`: {}", ports.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}
