//! Which files are the shards of a data set.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::tape::Packing;
use crate::{Entry, Error, Files, Listed, as_url};

/// Endings of shards.
pub const ENDINGS: [(&str, Packing); 4] =
    [(".tar", Packing::None), (".tar.gz", Packing::Gzip), (".tgz", Packing::Gzip), (".tar.zst", Packing::Zstd)];
/// Shards that a path with braces may stand for.
const MOST: usize = 1_000_000;
/// Bytes that all of their paths may have.
const MOST_TEXT: usize = 256 << 20;
/// Braces that a path may have: they are looked at one within the other.
const MOST_BRACES: usize = 64;

/// How a shard is packed, as its name says; none if it is no shard.
pub fn packing(path: &str) -> Option<Packing> {
    let ends = |ending: &str| {
        let start = path.len().checked_sub(ending.len()).filter(|&start| start > 0);
        start.and_then(|start| path.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    ENDINGS.iter().find(|(ending, _)| ends(ending)).map(|(_, packing)| *packing)
}

/// The shards of a path.
#[derive(Debug)]
pub enum Shards {
    /// All below a folder.
    Folder,
    /// The shards with these paths below a folder, sorted.
    Named(Vec<String>),
    /// The shards below a folder whose paths fit one of these patterns.
    Fitting(Vec<Pattern>),
}

impl Shards {
    /// What a path stands for, and the folder that holds them all.
    ///
    /// # Errors
    /// The path cannot be listed, or its braces are wrong.
    pub fn of(files: &dyn Files, path: &Path) -> Result<(PathBuf, Self), Error> {
        let fail = |message: String| Error::format(path, message);
        let text = path.to_str().ok_or_else(|| fail(crate::local::NOT_TEXT.to_owned()))?;
        if text.matches('{').count() > MOST_BRACES {
            return Err(fail(format!("it has more than {MOST_BRACES} braces")));
        }
        let paths = expanded(text).map_err(fail)?;
        let special = if text.contains('*') { text.find(['*', '?', '[', '{']) } else { None };
        let special = special.or_else(|| (paths.len() > 1 || paths[0] != text).then(|| text.find('{')).flatten());
        let Some(special) = special else {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_shard = packing(name).is_some() && files.list(path)?.files.iter().map(|file| &*file.path).eq([name]);
            return Ok(match path.parent() {
                Some(parent) if is_shard => (folder(parent), Self::Named(vec![name.to_owned()])),
                _ => (path.to_owned(), Self::Folder),
            });
        };
        let root = text[..special].rfind('/').map_or("", |slash| &text[..=slash]);
        let below: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix(root)).collect();
        if let Some(other) = below.iter().find(|path| packing(path).is_none()) {
            return Err(fail(format!("`{other}` is no shard: those end in {}", endings())));
        }
        let root = folder(Path::new(if root.len() > 1 { root.trim_end_matches('/') } else { root }));
        if text.contains('*') {
            let patterns = below.iter().map(|path| Pattern::new(path)).collect::<Result<_, _>>();
            return Ok((root, Self::Fitting(patterns.map_err(|error| fail(error.to_string()))?)));
        }
        let mut names: Vec<String> = below.into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        Ok((root, Self::Named(names)))
    }

    /// The shards, by path, and what may be some and cannot be listed.
    ///
    /// # Errors
    /// The folder cannot be listed, or a shard that was named is not there.
    pub fn list(&self, files: &dyn Files, root: &Path) -> Result<Listed, Error> {
        match self {
            Self::Folder => Ok(those(files.list(root)?, |path| packing(path).is_some())),
            Self::Fitting(patterns) => {
                let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
                Ok(those(files.list(root)?, |path| patterns.iter().any(|one| one.matches_with(path, options))))
            }
            // A bucket tells of a thousand objects at once, a disk of one file as fast as of all in its folder.
            Self::Named(names) if names.len() > 1 && as_url(root).is_some() => {
                let listed = those(files.list(root)?, |path| names.binary_search_by(|name| name.as_str().cmp(path)).is_ok());
                let there = |name: &str| listed.files.binary_search_by(|file| (*file.path).cmp(name)).is_ok();
                match names.iter().find(|name| !there(name)) {
                    Some(name) => Err(Error::io(root.join(name), std::io::ErrorKind::NotFound.into())),
                    None => Ok(listed),
                }
            }
            Self::Named(names) => {
                let one = |name: &String| {
                    let path = root.join(name);
                    let file = files.list(&path)?.files.into_iter().next();
                    let file = file.ok_or_else(|| Error::format(&path, "it is a folder, and no shard"))?;
                    Ok(Entry { path: name.as_str().into(), ..file })
                };
                Ok(Listed { files: names.iter().map(one).collect::<Result<_, Error>>()?, ..Listed::default() })
            }
        }
    }
}

fn those(mut listed: Listed, is_one: impl Fn(&str) -> bool) -> Listed {
    listed.files.retain(|file| is_one(&file.path));
    listed.left_out.retain(|one| one.is_folder || is_one(&one.path));
    listed
}

fn folder(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { ".".into() } else { path.to_owned() }
}

/// All endings, for messages.
pub fn endings() -> String {
    ENDINGS.map(|(ending, _)| ending).join(", ")
}

/// What a text with braces stands for, as in a shell: `{000..127}`, `{0..8..2}` and `{a,b}`, within each other too.
fn expanded(text: &str) -> Result<Vec<String>, String> {
    let Some((start, end)) = braces(text) else { return Ok(vec![text.to_owned()]) };
    let too_many = || format!("it stands for more than {MOST} shards, or for paths of more than {MOST_TEXT} bytes in all");
    let (before, within, behind) = (&text[..start], &text[start + 1..end], &text[end + 1..]);
    let heads = match range(within)? {
        Some(numbers) => numbers,
        None => {
            let mut all = Vec::new();
            for part in parts(within) {
                all.extend(expanded(part)?);
                if all.len() > MOST {
                    return Err(too_many());
                }
            }
            all
        }
    };
    let tails = expanded(behind)?;
    let count = heads.len().saturating_mul(tails.len());
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or_default();
    if count > MOST || count.saturating_mul(before.len() + longest(&heads) + longest(&tails)) > MOST_TEXT {
        return Err(too_many());
    }
    Ok(heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{before}{head}{tail}"))).collect())
}

/// The first pair of braces with a comma or two dots between them; others stand for themselves.
fn braces(text: &str) -> Option<(usize, usize)> {
    text.match_indices('{').find_map(|(start, _)| {
        let mut depth = 0_usize;
        let end = text[start..].char_indices().find_map(|(at, letter)| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(start + at)
        })?;
        let within = &text[start + 1..end];
        (parts(within).len() > 1 || range(within) != Ok(None)).then_some((start, end))
    })
}

/// Parts between commas that stand in no further braces.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .collect()
}

/// The numbers of `000..127`, as wide as those are written; none if it is no range.
fn range(text: &str) -> Result<Option<Vec<String>>, String> {
    let parts: Vec<&str> = text.split("..").collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let ([first, last] | [first, last, _]) = parts[..] else { return Ok(None) };
    if !parts.iter().all(is_number) {
        return Ok(None);
    }
    let number = |part: &str| part.parse::<u64>().map_err(|_| format!("`{part}` is too large a number"));
    let (from, to, step) = (number(first)?, number(last)?, parts.get(2).map_or(Ok(1), |step| number(step))?);
    if step == 0 || from.abs_diff(to) / step >= MOST as u64 {
        return Err(format!("`{{{text}}}` stands for more than {MOST} shards"));
    }
    let is_padded = |part: &str| part.len() > 1 && part.starts_with('0');
    let width = if is_padded(first) || is_padded(last) { first.len().max(last.len()) } else { 0 };
    let steps = (0..=from.abs_diff(to) / step).map(|at| at * step);
    let numbers = steps.map(|by| if from <= to { from + by } else { from - by });
    Ok(Some(numbers.map(|number| format!("{number:0width$}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_what_they_do_in_a_shell() {
        let of = |text: &str| expanded(text).unwrap().join(" ");
        assert_eq!(of("a-{08..11}.tar"), "a-08.tar a-09.tar a-10.tar a-11.tar");
        assert_eq!(of("{2..0}{x,}"), "2x 2 1x 1 0x 0");
        assert_eq!(of("{0..8..4}"), "0 4 8");
        assert_eq!(of("{a,b{1..2},{c,d}}e"), "ae b1e b2e ce de");
        assert_eq!(of("{a}/{b,c}/{}/{a..c}"), "{a}/b/{}/{a..c} {a}/c/{}/{a..c}");
        assert_eq!(of("a{b,c"), "a{b,c");
        assert_eq!(of("é{1,ü}"), "é1 éü");
        assert!(expanded("{0..99999999999999999999}").unwrap_err().contains("too large"));
        assert!(expanded("{0..9999999}").unwrap_err().contains("more than 1000000"));
        assert!(expanded("{0..9999}{0..9999}").unwrap_err().contains("more than 1000000"));
        assert!(expanded("{{0..999999},{0..999999}}").unwrap_err().contains("more than 1000000"));
        assert!(expanded(&format!("{}{{0..99999}}", "x".repeat(4000))).is_err());
    }

    #[test]
    fn shards_are_told_by_their_endings() {
        for (path, packed) in [
            ("a/b.tar", Some(Packing::None)),
            ("b.TAR.GZ", Some(Packing::Gzip)),
            ("b.tgz", Some(Packing::Gzip)),
            ("b.tar.zst", Some(Packing::Zstd)),
            ("b.gz", None),
            (".tar", None),
            ("b.tar.idx", None),
            ("éé", None),
        ] {
            assert_eq!(packing(path), packed, "{path}");
        }
    }
}
