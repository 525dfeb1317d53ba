use super::*;

#[test]
fn files_come_sorted_and_hidden_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["b.jpg", "a/z.jpg", "a/b/c.jpg", ".hidden/x.jpg", "a/.x.jpg"] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"xyz").unwrap();
    }
    std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("b.jpg"), dir.path().join("c.jpg")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("d.jpg")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("e.jpg"), dir.path().join("e.jpg")).unwrap();
    let Listed { files, left_out, .. } = LocalFiles.list(dir.path()).unwrap();
    let paths: Vec<&str> = files.iter().map(|e| &*e.path).collect();
    assert_eq!(paths, ["a/b/c.jpg", "a/z.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]);
    assert!(files[..4].iter().all(|e| e.size == 3 && e.modified_ns > 0 && e.changed_ns > 0));
    for (link, path) in files[4..].iter().zip(["d.jpg", "e.jpg"]) {
        assert_eq!(*link, Entry { path: path.into(), ..Entry::default() });
    }
    assert_eq!(left_out, []);
    assert_eq!(LocalFiles.list(&dir.path().join("b.jpg")).unwrap().files[0].path.as_ref(), "b.jpg");
}

/// Names of a large folder are handed on in slabs, and small folders are sorted together: all of it comes out in one order.
#[test]
fn large_and_small_folders_come_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let flat = (0..12_000).map(|at| format!("{:04x}.jpg", at * 7919 % 65_536));
    // Before and between those, since `/` comes after `.` and before digits.
    let below = (0..400).flat_map(|at| ["1.jpg", "2.jpg"].map(|name| format!("{:04x}/{name}", at * 163 % 65_536)));
    let within = (0..3000).map(|at| format!("5000-large/deep/{at}.png"));
    let mut paths: Vec<String> = flat.chain(below).chain(within).collect();
    for path in &paths {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create_new(path).unwrap();
    }
    paths.sort_unstable();
    for _ in 0..4 {
        let Listed { files, left_out, .. } = LocalFiles.list(dir.path()).unwrap();
        assert!(files.iter().map(|entry| &*entry.path).eq(paths.iter().map(String::as_str)));
        assert_eq!(left_out, []);
    }
}

#[test]
fn what_cannot_be_listed_is_told_and_the_rest_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let name = |bytes: &'static [u8]| <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes);
    fs::create_dir_all(dir.path().join(name(b"caf\xe9/x"))).unwrap();
    fs::create_dir_all(dir.path().join("a")).unwrap();
    for path in [&b"caf\xe9/1.jpg"[..], b"a/\xff\xc3\xa9.jpg", b"a/\x1b[2J.jpg", b"b.jpg"] {
        fs::write(dir.path().join(name(path)), b"xyz").unwrap();
    }
    let Listed { files, left_out, .. } = LocalFiles.list(dir.path()).unwrap();
    assert_eq!(files.iter().map(|e| &*e.path).collect::<Vec<_>>(), ["a/\u{1b}[2J.jpg", "b.jpg"]);
    let told: Vec<_> = left_out.iter().map(|one| (one.path.as_str(), one.is_folder)).collect();
    assert_eq!(told, [("a/\\xffé.jpg", false), ("caf\\xe9", true)]);
    assert!(left_out.iter().all(|one| one.reason == NOT_TEXT));
}

/// A path that is too long cannot be opened, whoever asks.
#[test]
fn folders_that_lie_too_deep_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("z.jpg"), b"").unwrap();
    let script =
        "n=$(printf %0200d 0); for at in $(seq 25); do mkdir $n && cd -P $n 2>/dev/null && touch 1.jpg || exit 1; done";
    assert!(std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path()).status().unwrap().success());
    let Listed { files, left_out, .. } = LocalFiles.list(dir.path()).unwrap();
    let depth = |path: &str| path.split('/').count();
    let [only] = &left_out[..] else { panic!("{left_out:?}") };
    assert!(only.is_folder && only.reason.starts_with("the folder cannot be read: File name too long"), "{only:?}");
    assert!((10..25).contains(&depth(&only.path)) && files.len() == depth(&only.path), "{}", files.len());
}

/// A folder that only its owner may read: whoever may read everything does not see the difference.
#[test]
fn a_folder_that_cannot_be_read_is_left_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("1.jpg"), b"").unwrap();
    fs::write(dir.path().join("2.jpg"), b"").unwrap();
    let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    let (may, listed) = (fs::read_dir(&closed).is_ok(), LocalFiles.list(dir.path()).unwrap());
    let root = LocalFiles.list(&closed);
    mode(0o755);
    let found: Vec<&str> = listed.files.iter().map(|e| &*e.path).collect();
    let told: Vec<_> = listed.left_out.iter().map(|one| (one.path.as_str(), one.is_folder)).collect();
    if may {
        assert_eq!((found, told), (vec!["2.jpg", "closed/1.jpg"], vec![]));
    } else {
        assert_eq!((found, told), (vec!["2.jpg"], vec![("closed", true)]));
        assert!(listed.left_out[0].reason.contains("Permission denied"), "{listed:?}");
        assert!(root.unwrap_err().to_string().contains("closed: Permission denied"));
    }
}

#[test]
fn a_missing_root_is_named() {
    let error = LocalFiles.list(Path::new("/no/such/folder")).unwrap_err().to_string();
    assert!(error.starts_with("/no/such/folder: "), "{error}");
}

#[test]
fn ranges_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, b"0123456789").unwrap();
    assert_eq!(LocalFiles.read_range(&path, 3, 4).unwrap(), b"3456");
    // What a damaged file says of a place is no reason to make room for it.
    for (offset, length) in [(8, 4), (0, u64::MAX), (u64::MAX, 4), (5, 1 << 60)] {
        let error = LocalFiles.read_range(&path, offset, length).unwrap_err().to_string();
        assert!(error.ends_with("f: unexpected end of file"), "{error}");
    }
    let error = LocalFiles.read_range(dir.path(), 0, 4).unwrap_err().to_string();
    assert!(error.contains("Is a directory"), "{error}");
}

#[test]
#[ignore = "a benchmark"]
fn listing_rate() {
    let dir = tempfile::tempdir().unwrap();
    for folder in (0..100).map(|at| dir.path().join(format!("folders/class-{at}"))) {
        fs::create_dir_all(&folder).unwrap();
        (0..1000).for_each(|at| fs::write(folder.join(format!("{at}.jpg")), b"").unwrap());
    }
    fs::create_dir(dir.path().join("one")).unwrap();
    (0..100_000).for_each(|at| fs::write(dir.path().join(format!("one/{at}.jpg")), b"").unwrap());
    let best = |work: &dyn Fn()| {
        let pass = |_| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        };
        (0..5).map(pass).min().unwrap()
    };
    for (root, what) in [("folders", "100 folders"), ("one", "one folder")] {
        let root = dir.path().join(root);
        let ours = best(&|| assert_eq!(LocalFiles.list(&root).unwrap().files.len(), 100_000));
        let find = best(&|| {
            let found = std::process::Command::new("find").arg(&root).args(["-printf", "%p %s %T@\n"]).output().unwrap();
            assert!(found.status.success());
        });
        println!("100,000 files in {what}: listed in {ours:.2?}, by find in {find:.2?}");
    }
}
