//! What every operator keeps to.

use std::collections::BTreeSet;

use serde_json::{Map, json};
use tessera_operators::OPERATORS;
use tessera_operators::operator::{At, PortKind};

#[test]
fn names_are_words_of_their_own() {
    let names: BTreeSet<&str> = OPERATORS.iter().map(|operator| operator.name()).collect();
    assert_eq!(names.len(), OPERATORS.len());
    for operator in OPERATORS {
        assert!(operator.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", operator.name());
        assert!(operator.summary().len() > 10, "{} says what it does", operator.name());
        assert!(operator.version() >= 1);
        assert!(std::ptr::addr_eq(tessera_operators::find(operator.name()).unwrap(), *operator));
    }
}

#[test]
fn unknown_keys_are_refused_and_the_known_ones_told() {
    for operator in OPERATORS {
        let keys = Map::from_iter([("no_such_key".to_owned(), json!(1))]);
        let errors = operator.check(keys).unwrap_err();
        let unknown = errors.iter().find(|error| error.at == At::Key("no_such_key".into()));
        let unknown = unknown.unwrap_or_else(|| panic!("{}: {errors:?}", operator.name()));
        let help = unknown.help.as_deref().unwrap_or_default();
        assert!(!operator.fields().is_empty() && operator.fields().iter().all(|field| help.contains(field)), "{help}");
    }
}

#[test]
fn ports_have_names_and_fit_the_shape() {
    for operator in OPERATORS {
        let ports = operator.inputs();
        let names: BTreeSet<&str> = ports.iter().map(|port| port.name).collect();
        assert_eq!(names.len(), ports.len(), "{}", operator.name());
        let streams = ports.iter().filter(|port| port.kind == PortKind::Stream).count();
        let scans = ports.iter().filter(|port| port.kind == PortKind::Scan).count();
        assert!(streams <= 1 && (streams == 0 || scans == 0), "{} is a map or it is not", operator.name());
        if operator.view() || operator.looks_back() {
            assert_eq!(streams, 1, "{}: only a map can be a view, or look back", operator.name());
        }
    }
}
