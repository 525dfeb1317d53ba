//! The shapes of kernels, and which ports go with each. An operator whose ports do not fit the shape of its kernel does not compile.

use super::{Kernel, Map, Port, PortKind, Query, Source, Whole};

/// A kernel's type: `Box<dyn Source>`, `Box<dyn Map>`, `Box<dyn Whole>` or [`Query`]; of an operator of several shapes, [`Kernel`].
pub trait Shape: Into<Kernel> {
    /// Its name.
    const NAME: ShapeName;
}

/// The name of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeName {
    /// Of a [`Source`].
    Source,
    /// Of a [`Map`].
    Map,
    /// Of a [`Whole`].
    Whole,
    /// Of a [`Query`].
    Query,
    /// A map, or a kernel that sees whole tables: which of its inputs a stage has says which one it is.
    Any,
}

impl Shape for Box<dyn Source> {
    const NAME: ShapeName = ShapeName::Source;
}
impl Shape for Box<dyn Map> {
    const NAME: ShapeName = ShapeName::Map;
}
impl Shape for Box<dyn Whole> {
    const NAME: ShapeName = ShapeName::Whole;
}
impl Shape for Query {
    const NAME: ShapeName = ShapeName::Query;
}

impl Shape for Kernel {
    const NAME: ShapeName = ShapeName::Any;
}

impl From<Box<dyn Source>> for Kernel {
    fn from(source: Box<dyn Source>) -> Self {
        Self::Source(source)
    }
}
impl From<Box<dyn Map>> for Kernel {
    fn from(map: Box<dyn Map>) -> Self {
        Self::Map(map)
    }
}
impl From<Box<dyn Whole>> for Kernel {
    fn from(whole: Box<dyn Whole>) -> Self {
        Self::Whole(whole)
    }
}
impl From<Query> for Kernel {
    fn from(query: Query) -> Self {
        Self::Query(query)
    }
}

impl ShapeName {
    /// What is wrong with the ports of an operator of that shape, if anything. Asked while the crate is compiled.
    pub const fn fault(self, ports: &[Port]) -> Option<&'static str> {
        let (mut streams, mut scans, mut sides, mut named, mut tables) = (0, 0, 0, 0, 0);
        let mut at = 0;
        while at < ports.len() {
            match ports[at].kind {
                _ if ports[at].required && matches!(self, Self::Any) => {
                    return Some("a kernel of any shape has one input or none: each of them is optional");
                }
                PortKind::Stream if !ports[at].required && !matches!(self, Self::Any) => {
                    return Some("a map has its stream always: it is not optional");
                }
                PortKind::Stream => streams += 1,
                PortKind::Scan => scans += 1,
                PortKind::Side => sides += 1,
                PortKind::Named => named += 1,
                PortKind::Table => tables += 1,
            }
            at += 1;
        }
        match self {
            Self::Source if !ports.is_empty() => Some("a source reads no stages: it has no ports"),
            Self::Map if streams != 1 || scans + named + tables > 0 => Some("a map has one stream, and sides besides"),
            Self::Whole if scans == 0 || streams + named + tables > 0 => {
                Some("a kernel that sees whole tables has scans, and sides besides")
            }
            Self::Query if streams + scans + sides > 0 || !(named == 1 && tables == 0 || named == 0 && tables > 0) => {
                Some("a query has tables, or any number of them under names of the user's choice")
            }
            Self::Any if streams == 0 || scans == 0 || sides + named + tables > 0 => {
                Some("a kernel of any shape has a stream for a map, and a scan for whole tables, and reads nothing besides")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_fit_one_shape() {
        const fn port(kind: PortKind) -> Port {
            Port { kind, ..Port::side("port", &[]) }
        }
        let fitting: [(&[Port], Option<ShapeName>); 13] = [
            (&[], Some(ShapeName::Source)),
            (&[Port::stream("rows", &[])], Some(ShapeName::Map)),
            (&[Port::stream("rows", &[]), Port::side("side", &[]).optional()], Some(ShapeName::Map)),
            (&[Port::scan("rows", &[]), Port::side("side", &[])], Some(ShapeName::Whole)),
            (&[port(PortKind::Named)], Some(ShapeName::Query)),
            (&[port(PortKind::Table), port(PortKind::Table)], Some(ShapeName::Query)),
            (&[Port::stream("rows", &[]).optional(), Port::scan("all", &[]).optional()], Some(ShapeName::Any)),
            (&[Port::stream("rows", &[]), Port::scan("all", &[]).optional()], None),
            (&[Port::stream("rows", &[]).optional(), Port::side("side", &[]).optional()], None),
            (&[Port::stream("rows", &[]).optional()], None),
            (&[Port::stream("rows", &[]), Port::scan("more", &[])], None),
            (&[Port::side("side", &[])], None),
            (&[port(PortKind::Named), port(PortKind::Table)], None),
        ];
        for (ports, expected) in fitting {
            for shape in [ShapeName::Source, ShapeName::Map, ShapeName::Whole, ShapeName::Query, ShapeName::Any] {
                assert_eq!(shape.fault(ports).is_none(), expected == Some(shape), "{shape:?}: {ports:?}");
            }
        }
    }
}
