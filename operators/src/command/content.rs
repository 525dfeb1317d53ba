//! What a program's answers follow from beside its input and its command line: the bytes of the program, of the files that its command line
//! names, and of those that it is said to use, and the values of variables. Digests of these are in the stage's key.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};

use crate::operator::RunError;

/// Files of one folder: more are a data set.
const MOST_FILES: usize = 100_000;
/// Bytes that are read at once.
const AT_ONCE: usize = 1 << 20;
/// What interpreters write beside their programs.
const WRITTEN: &str = "__pycache__";

/// What a program's answers follow from.
#[derive(Debug, Clone)]
pub struct Content {
    /// Where the program lies.
    pub program: PathBuf,
    /// What it is known by: where it was found, if the pipeline file does not say where it lies.
    place: String,
    /// The folder that it runs in.
    pub folder: PathBuf,
    /// Files and folders, each with the name that the pipeline file has for it.
    files: Vec<(String, PathBuf)>,
    /// Variables, and their values if they are set.
    pub variables: Vec<(String, Option<OsString>)>,
}

impl Content {
    /// What a command line and the files that it is said to use name, from a folder on, and variables of this process.
    ///
    /// # Errors
    /// There is no such program: a fragment.
    pub fn new(command: &[String], files: &[PathBuf], variables: &[String], base: &Path) -> Result<Self, String> {
        let (written, arguments) = command.split_first().ok_or("there is no program to run")?;
        let folder = std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?.join(base);
        let program = resolve(written, &folder, std::env::var_os("PATH"))?;
        let place = if written.contains('/') { written.clone() } else { program.display().to_string() };
        let mut named: Vec<(String, PathBuf)> = Vec::new();
        for argument in arguments {
            // `--weights=model.bin` names a file as well.
            let values = [Some(argument.as_str()), argument.split_once('=').map(|(_, value)| value)];
            let value = values.into_iter().flatten().find(|value| !value.is_empty() && has_content(&folder.join(value)));
            named.extend(value.map(|value| (value.to_owned(), folder.join(value))));
        }
        named.extend(files.iter().map(|file| (file.display().to_string(), folder.join(file))));
        let value = |name: &String| match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.into())),
            None => (name.clone(), std::env::var_os(name)),
        };
        Ok(Self { program, place, folder, files: named, variables: variables.iter().map(value).collect() })
    }

    /// A digest of each, with its name: what the stage's key has of them.
    ///
    /// # Errors
    /// A file cannot be read, or a folder has too many.
    pub fn digests(&self) -> Result<Vec<String>, RunError> {
        let mut all = vec![entry(of_file(&self.program)?, &self.place)];
        for (name, path) in &self.files {
            let digest = if path.is_dir() { of_folder(path)? } else { of_file(path)? };
            all.push(entry(digest, name));
        }
        for (name, value) in &self.variables {
            let mut hasher = Hasher::new();
            // One that is empty is not one that is unset.
            hasher.update(&[u8::from(value.is_some())]);
            hasher.update(value.as_ref().map_or(&b""[..], |value| value.as_bytes()));
            all.push(entry(hasher.finalize(), &format!("${name}")));
        }
        Ok(all)
    }
}

fn entry(digest: Hash, name: &str) -> String {
    format!("{} {name}", &digest.to_hex()[..32])
}

/// Where a program lies: a path with a slash starts from the folder, any other name is looked for in the folders of `path`.
fn resolve(program: &str, base: &Path, path: Option<OsString>) -> Result<PathBuf, String> {
    let is_program =
        |path: &Path| std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        let found = base.join(program);
        return match found.is_file() {
            true if is_program(&found) => Ok(found),
            true => {
                Err(format!("`{program}` is no program: it lacks the permission to run (`chmod +x {program}` gives it)"))
            }
            false => Err(format!("the program `{program}` does not exist")),
        };
    }
    let folders = path.unwrap_or_default();
    let mut candidates = std::env::split_paths(&folders).map(|folder| base.join(folder).join(program));
    candidates.find(|path| is_program(path)).ok_or_else(|| format!("the program `{program}` is in no folder of PATH"))
}

fn io(path: &Path, source: std::io::Error) -> RunError {
    RunError::Io { path: path.to_owned(), source }
}

/// Whether a path is a file's or a folder's: a device or a pipe has no content that a key could be made of.
fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() || about.is_dir())
}

fn of_file(path: &Path) -> Result<Hash, RunError> {
    let fail = |error| io(path, error);
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("it is neither a file nor a folder")));
    }
    let mut file = File::open(path).map_err(fail)?;
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; AT_ONCE]);
    loop {
        match file.read(&mut piece).map_err(fail)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&piece[..read]),
        };
    }
}

/// The files of a folder and of those below it, by their names in it; what is hidden is left aside, and what interpreters write.
fn of_folder(root: &Path) -> Result<Hash, RunError> {
    let mut found: Vec<(Vec<u8>, PathBuf)> = Vec::new();
    let mut open = vec![root.to_owned()];
    // Links may lead in a circle.
    let mut seen = BTreeSet::new();
    while let Some(folder) = open.pop() {
        if !seen.insert(folder.canonicalize().map_err(|error| io(&folder, error))?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|error| io(&folder, error))? {
            let path = entry.map_err(|error| io(&folder, error))?.path();
            let name = path.file_name().unwrap_or_default();
            if name.as_bytes().starts_with(b".") || name == WRITTEN {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes().to_vec();
                found.push((name, path));
            }
        }
        if found.len() > MOST_FILES {
            let message = format!("has more than {MOST_FILES} files, which would all be read for the stage's key");
            return Err(RunError::Format { path: root.to_owned(), message });
        }
    }
    found.sort();
    let mut hasher = Hasher::new();
    for (name, path) in found {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(&name);
        hasher.update(of_file(&path)?.as_bytes());
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn content(base: &Path, command: &[&str], files: &[&str], variables: &[&str]) -> Content {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        Content::new(&texts(command), &files, &texts(variables), base).unwrap()
    }

    /// The names of what is told of, and whether each digest changed.
    fn changed(before: &[String], after: &[String]) -> Vec<(String, bool)> {
        let name = |entry: &String| entry.split_once(' ').unwrap().1.to_owned();
        before.iter().zip(after).map(|(was, is)| (name(is), was != is)).collect()
    }

    #[test]
    fn what_is_named_is_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("lib/deep/__pycache__")).unwrap();
        for file in ["run.py", "model.bin", "lib/a.py", "lib/deep/b.py"] {
            fs::write(base.join(file), file).unwrap();
        }
        let command = ["sh", "run.py", "--model=model.bin", "--side=64", "missing.py"];
        let digests = || content(base, &command, &["lib"], &["COLOUR=red"]).digests().unwrap();
        let first = digests();
        let told = |after: &[String]| -> Vec<String> {
            changed(&first, after).into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
        };
        let names: Vec<String> = changed(&first, &first).into_iter().map(|(name, _)| name).collect();
        assert!(names[0].ends_with("/sh"), "{names:?}");
        assert_eq!(names[1..], ["run.py", "model.bin", "lib", "$COLOUR"]);
        fs::write(base.join("lib/deep/__pycache__/b.pyc"), "x").unwrap();
        fs::write(base.join("lib/.hidden"), "x").unwrap();
        assert_eq!(digests(), first);
        fs::write(base.join("lib/deep/b.py"), "other").unwrap();
        assert_eq!(told(&digests()), ["lib"]);
        fs::write(base.join("lib/deep/b.py"), "lib/deep/b.py").unwrap();
        assert_eq!(digests(), first);
        fs::rename(base.join("lib/deep/b.py"), base.join("lib/deep/c.py")).unwrap();
        assert_eq!(told(&digests()), ["lib"]);
        fs::write(base.join("model.bin"), "other").unwrap();
        assert_eq!(told(&digests()), ["model.bin", "lib"]);
        assert_eq!(content(base, &command, &["lib"], &["COLOUR=blue"]).digests().unwrap().len(), first.len());
        fs::write(base.join("missing.py"), "there now").unwrap();
        assert_eq!(digests().len(), first.len() + 1);
    }

    #[test]
    fn variables_are_known_by_their_values() {
        let digest = |variable: &str| content(Path::new("/"), &["sh"], &[], &[variable]).digests().unwrap().pop().unwrap();
        assert_ne!(digest("A=1"), digest("A=2"));
        assert_ne!(digest("NO_SUCH_VARIABLE"), digest("NO_SUCH_VARIABLE="));
        assert!(digest("A=1").ends_with(" $A") && !digest("A=secret").contains("secret"));
    }

    #[test]
    fn a_folder_in_a_circle_comes_to_an_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        std::os::unix::fs::symlink(".", folder.path().join("here")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("broken")).unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("..", inner.join("up")).unwrap();
        of_folder(&inner).unwrap();
    }

    #[test]
    fn a_program_is_found_or_missed_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::write(base.join("tool"), "#!/bin/sh\n").unwrap();
        let told = |program: &str| resolve(program, base, Some("bin:/usr/bin:/bin".into()));
        assert_eq!(
            told("./tool").unwrap_err(),
            "`./tool` is no program: it lacks the permission to run (`chmod +x ./tool` gives it)"
        );
        assert_eq!(told("tool").unwrap_err(), "the program `tool` is in no folder of PATH");
        assert_eq!(told("./other").unwrap_err(), "the program `./other` does not exist");
        assert_eq!(told("bin/").unwrap_err(), "the program `bin/` does not exist");
        fs::set_permissions(base.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(told("./tool").unwrap(), base.join("./tool"));
        fs::create_dir(base.join("bin")).unwrap();
        fs::rename(base.join("tool"), base.join("bin/tool")).unwrap();
        assert_eq!(told("tool").unwrap(), base.join("bin/tool"));
    }
}
