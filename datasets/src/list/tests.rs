use tempfile::TempDir;

use arrow::array::Array as _;

use super::*;
use crate::local::LocalFiles;

fn made(list: &str, text: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for path in ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/notes.txt"] {
        std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(path), path).unwrap();
    }
    std::fs::write(dir.path().join(list), text.replace("ROOT", dir.path().to_str().unwrap())).unwrap();
    dir
}

fn read(dir: &TempDir, list: &str, column: Option<&str>) -> Result<(RecordBatch, Listed), Error> {
    let list = List::open(&LocalFiles, &dir.path().join(list), column)?;
    let listed = list.list(&LocalFiles)?;
    let prints: Vec<Fingerprint> =
        listed.files.iter().map(|entry| Fingerprint { entry: entry.clone(), ..Fingerprint::default() }).collect();
    let found: Vec<RecordBatch> =
        list.rows(&LocalFiles, &prints)?.map(|found| Ok(found?.rows)).collect::<Result<_, Error>>()?;
    Ok((concat_batches(&list.schema(), &found).unwrap(), listed))
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<String> {
    text(rows, name).unwrap().iter().map(|value| value.unwrap_or("-").to_owned()).collect()
}

#[test]
fn lines_are_paths() {
    let dir = made("list.txt", "\u{feff}b/3.jpg\r\n\r\n./a/1.jpg\r\nc/4.jpg\n");
    let (rows, listed) = read(&dir, "list.txt", None).unwrap();
    assert_eq!(texts(&rows, "image_id"), ["a/1.jpg", "b/3.jpg"]);
    let lacking = &listed.left_out[0];
    assert_eq!(&*lacking.path, "c/4.jpg");
    assert!(lacking.reason.ends_with("list.txt names it, and there is no such file"), "{}", lacking.reason);
    let folder = read(&made("list.txt", "a\nb/3.jpg\n"), "list.txt", None).unwrap().1;
    assert_eq!((&*folder.left_out[0].path, folder.files.len()), ("a", 2));
    assert_eq!(rows.schema(), images::schema());
}

#[test]
fn tables_say_more() {
    let dir = made("list.csv", "label,file_name,stars\ndog,b/3.jpg,5\n,a/2.jpg,\n");
    let (rows, _) = read(&dir, "list.csv", None).unwrap();
    assert_eq!(texts(&rows, "image_id"), ["a/2.jpg", "b/3.jpg"]);
    assert_eq!(texts(&rows, "label"), ["-", "dog"]);
    let stars = cast(rows.column_by_name("stars").unwrap(), &DataType::Utf8).unwrap();
    assert!(stars.is_null(0) && stars.is_valid(1));
    let dir = made("list.csv", "where,n\na/1.jpg,1\n");
    assert_eq!(texts(&read(&dir, "list.csv", Some("where")).unwrap().0, "image_id"), ["a/1.jpg"]);
    let error = read(&dir, "list.csv", None).unwrap_err().to_string();
    assert!(error.contains("has no column of paths, such as `path`; of text it has where"), "{error}");
}

#[test]
fn absolute_paths_keep_their_names() {
    let dir = made("list.txt", "ROOT/a/1.jpg\nROOT/b/3.jpg\n");
    let (rows, listed) = read(&dir, "list.txt", None).unwrap();
    let inner = dir.path().to_str().unwrap().trim_start_matches('/').to_owned();
    assert_eq!(texts(&rows, "image_id"), [format!("{inner}/a/1.jpg"), format!("{inner}/b/3.jpg")]);
    assert_eq!(listed.files.len(), 3);
    let sources: Vec<_> = images::sources(&rows).unwrap().collect();
    let list = List::open(&LocalFiles, &dir.path().join("list.txt"), None).unwrap();
    let found = list.access().read_each(&LocalFiles, list.root(), dir.path(), &sources);
    assert_eq!(found[1].as_ref().unwrap(), b"b/3.jpg");
}

#[test]
fn faults_have_their_rows() {
    let refused = |text: &str| {
        let error = read(&made("list.txt", text), "list.txt", None).unwrap_err().to_string();
        error.split_once("list.txt: ").unwrap().1.to_owned()
    };
    assert_eq!(refused("\n"), "names no image");
    assert_eq!(refused("a/1.jpg\n../x.jpg\n"), "row 2: `../x.jpg` leads out of the list's folder: write it from / on");
    assert_eq!(refused("a/1.jpg\n./a/1.jpg\n"), "row 2: `./a/1.jpg` is in row 1 already");
    assert!(refused("a/1.jpg\n/x.jpg\n").starts_with("has `a/1.jpg` and `/x.jpg`: all paths should be"));
    assert_eq!(refused("./\n"), "row 1: `./` is no image");
    assert_eq!(refused("a/1.jpg\nlist.txt\n"), "row 2: `list.txt` is no image");
    assert!(refused("s3://b/1.jpg\ns3://c/x.jpg\n").ends_with("or URLs of one bucket"));
}
