use super::*;

fn read(bytes: &[u8]) -> Result<Pickle, Error> {
    Pickle::read(Cursor::new(bytes), Path::new("/d/p"))
}

fn why(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

/// As Python writes it: `{"a": [1, -2, 70000, 2**40, 2**80, 1.5, None, True, b"x"], "b": {3}, ("c",): frozenset()}`.
#[test]
fn protocols_say_the_same_in_different_words() {
    let second = b"\x80\x02}q\0(X\x01\0\0\0aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\0\x8a\x06\0\0\0\0\0\x01\
        \x8a\x0b\0\0\0\0\0\0\0\0\0\0\x01G?\xf8\0\0\0\0\0\0N\x88c_codecs\nencode\nq\x03X\x01\0\0\0xq\x04X\x06\0\0\0latin1q\x05\
        \x86q\x06Rq\x07eX\x01\0\0\0bq\x08c__builtin__\nset\nq\t]q\nK\x03a\x85q\x0bRq\x0cX\x01\0\0\0cq\r\x85q\x0e\
        c__builtin__\nfrozenset\nq\x0f]q\x10\x85q\x11Rq\x12u.";
    let fifth = b"\x80\x05\x95P\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffJp\x11\x01\0\
        \x8a\x06\0\0\0\0\0\x01\x8a\x0b\0\0\0\0\0\0\0\0\0\0\x01G?\xf8\0\0\0\0\0\0N\x88C\x01x\x94e\x8c\x01b\x94\x8f\x94(K\x03\x90\
        \x8c\x01c\x94\x85\x94(\x91\x94u.";
    for bytes in [&second[..], fifth] {
        let pickle = read(bytes).unwrap();
        let Value::Dict(entries) = pickle.value(pickle.top()) else { panic!("{pickle:?}") };
        let keys: Vec<_> = entries.iter().map(|(key, _)| pickle.text(*key)).collect();
        assert_eq!(keys, [Some("a"), Some("b"), None]);
        let Value::List(items) = pickle.value(entries[0].1) else { panic!("{pickle:?}") };
        let ints: Vec<_> = items[..5].iter().map(|&item| pickle.int(item)).collect();
        assert_eq!(ints, [Some(1), Some(-2), Some(70_000), Some(1 << 40), None]);
        let others: Vec<_> = items[4..8].iter().map(|&item| pickle.value(item).clone()).collect();
        assert_eq!(others, [Value::Huge, Value::Float(1.5), Value::None, Value::Bool(true)]);
        assert_eq!(pickle.bytes(items[8]).unwrap().as_ref(), b"x");
        assert_eq!(pickle.tuple(entries[2].0).map(|items| pickle.text(items[0])), Some(Some("c")));
    }
}

/// What would be called, with what, and what then comes into it.
#[test]
fn calls_are_kept_and_not_made() {
    let pickle = read(b"\x80\x02cos\nsystem\nX\x04\0\0\0echo\x85R(K\x01e(K\x02K\x03uK\x04b.").unwrap();
    let (name, arguments) = pickle.call(pickle.top()).unwrap();
    assert_eq!((name, pickle.text(arguments[0])), ("os system", Some("echo")));
    let Value::Object(object) = pickle.value(pickle.top()) else { panic!("{pickle:?}") };
    assert_eq!(object.items.iter().map(|&item| pickle.int(item)).collect::<Vec<_>>(), [Some(1)]);
    let entries: Vec<_> = object.entries.iter().map(|&(key, value)| (pickle.int(key), pickle.int(value))).collect();
    assert_eq!((entries, object.state.and_then(|state| pickle.int(state))), (vec![(Some(2), Some(3))], Some(4)));
    // NEWOBJ, NEWOBJ_EX, and a call of what a call makes.
    for bytes in [&b"\x80\x02cm\nC\n)\x81."[..], b"\x80\x04\x8c\x01m\x8c\x01C\x93)}\x92."] {
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.call(pickle.top()), Some(("m C", &[][..])));
    }
    let pickle = read(b"\x80\x02cm\nf\n)R)R.").unwrap();
    assert_eq!(pickle.call(pickle.top()), None);
    // What lies beside the pickle, with POP, POP_MARK and DUP on the way.
    let pickle = read(b"\x80\x02K\x000(K\x01K\x021X\x01\0\0\x007K\x02\x862\x86Q.").unwrap();
    let Value::Persistent(name) = *pickle.value(pickle.top()) else { panic!("{pickle:?}") };
    let &[one, two] = pickle.tuple(name).unwrap() else { panic!("{pickle:?}") };
    assert!(one == two && pickle.text(pickle.tuple(one).unwrap()[0]) == Some("7"));
}

#[test]
fn long_strings_are_named_by_their_places() {
    let long = vec![7; FAR as usize + 1];
    let length = (long.len() as u32).to_le_bytes();
    let bytes = [&b"\x80\x03B"[..], &length, &long, b"X", &length, &long, b"\x86."].concat();
    let pickle = read(&bytes).unwrap();
    let &[first, second] = pickle.tuple(pickle.top()).unwrap() else { panic!("{pickle:?}") };
    assert_eq!(*pickle.value(first), Value::Far { offset: 7, length: FAR + 1 });
    assert_eq!(*pickle.value(second), Value::FarText);
    assert_eq!((pickle.text(second), pickle.bytes(first)), (None, None));
}

#[test]
fn what_is_no_pickle_is_refused() {
    for (bytes, said) in [
        (&b""[..], "/d/p: its pickle cannot be read at byte 0: the file ends"),
        (b"\x80\x02(.", "a value is missing"),
        (b"\x80\x02t.", "a mark is missing"),
        (b"\x80\x02h\x07.", "a value was never kept"),
        (b"\x80\x02B\xff\xff\xff\xffabc", "the file ends within a string of 4294967295 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\xffabc", "the file ends"),
        (b"\x80\x02K\x01K\x02a.", "only a list takes items"),
        (b"\x80\x02]K\x01K\x02s.", "only a dictionary takes entries"),
        (b"\x80\x02}K\x01b.", "only an object has a state"),
        (b"\x80\x04K\x01K\x02\x93.", "the name of a function should be text"),
        (b"\x80\x02cm", "the file ends"),
        (b"cos\nsystem\n(S'echo'\ntR.", "operation 0x53 is not one of protocols 2 to 5"),
        (b"\x80\x05\x97.", "operation 0x97 is not one of"),
    ] {
        assert!(why(bytes).contains(said), "{}", why(bytes));
    }
    let name = [&b"\x80\x02c"[..], &[b'a'; 300], b"\nf\n."].concat();
    assert!(why(&name).contains("a name is too long"));
    let many = [&b"\x80\x02"[..], &vec![b'N'; MOST_VALUES + 1], b"."].concat();
    assert!(why(&many).contains("more than 4000000 values"));
    let busy = [&b"\x80\x02]"[..], &b"20".repeat(MOST_OPERATIONS / 2), b"."].concat();
    assert!(why(&busy).contains("more than 32000000 operations"));
    let kept = [&b"\x80\x04N"[..], &vec![0x94; MOST_VALUES + 1], b"."].concat();
    assert!(why(&kept).contains("it keeps more than 4000000 values"));
}

/// What was kept once is named again in two bytes.
#[test]
fn texts_and_tuples_are_bounded() {
    let text = [&b"\x80\x04X\0\x04\0\0"[..], &[b'a'; 1024], b"\x94"].concat();
    let named = [&text[..], &b"h\0h\0\x93".repeat(40_000), b"."].concat();
    assert!(why(&named).ends_with("its texts have more than 67108864 bytes"), "{}", why(&named));
    let pickle = |items: usize| read(&[&b"\x80\x02cm\nf\n("[..], &vec![b'N'; items], b"tR."].concat()).unwrap();
    let known = |pickle: &Pickle| pickle.call(pickle.top()).map(|(_, items)| items.len());
    assert_eq!((known(&pickle(MOST_ITEMS)), known(&pickle(MOST_ITEMS + 1))), (Some(128), None));
}
