//! The command line before it is parsed: where FILE is left out, it is the `pipeline.toml` of the working directory.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::Usage;

/// The pipeline file where none is named.
const DEFAULT: &str = "pipeline.toml";

/// The commands, whose usage says that FILE may be left out.
pub fn with_optional_file(all: Command) -> Command {
    let usage = |command: &Command| {
        let usage = command.clone().render_usage().to_string();
        format!("tessera {}", usage.trim_start_matches("Usage: ").replace("<FILE>", "[FILE]"))
    };
    all.mut_subcommands(|command| match file(&command) {
        Some(_) => {
            let usage = usage(&command);
            command.override_usage(usage)
        }
        None => command,
    })
}

/// The argument FILE of a command that is about a pipeline file.
fn file(command: &Command) -> Option<&Arg> {
    let first = command.get_positionals().next()?;
    let names = first.get_value_names().unwrap_or_default();
    names.iter().any(|name| name == "FILE").then_some(first)
}

/// The words of a command line, the program's name first, with FILE where they leave it out.
///
/// # Errors
/// They leave it out, and there is no such file here.
pub fn with_file(all: &Command, mut words: Vec<OsString>) -> Result<Vec<OsString>, Usage> {
    // What is wrong with them is told when they are parsed; only a word too few may be FILE's.
    let wrong = all.clone().try_get_matches_from(&words).err();
    if wrong.is_some_and(|error| error.kind() != ErrorKind::MissingRequiredArgument) {
        return Ok(words);
    }
    let parsed = all.clone().ignore_errors(true).try_get_matches_from(&words);
    let Some((command, given)) = parsed.as_ref().ok().and_then(ArgMatches::subcommand) else { return Ok(words) };
    let Some(found) = all.find_subcommand(command) else { return Ok(words) };
    let lacks = file(found).is_some_and(|file| leaves_out(found, given, file));
    let Some(at) = words.iter().skip(1).position(|word| word == command).filter(|_| lacks) else { return Ok(words) };
    if !Path::new(DEFAULT).is_file() {
        let message =
            format!("there is no {DEFAULT} in this folder: name the pipeline file, as in `tessera {command} FILE`");
        return Err(Usage(message));
    }
    words.insert(at + 2, DEFAULT.into());
    Ok(words)
}

/// Whether the first of a command's words is something else than a pipeline file.
fn leaves_out(command: &Command, given: &ArgMatches, file: &Arg) -> bool {
    let words = |arg: &Arg| -> Vec<&OsStr> {
        let id = arg.get_id().as_str();
        let is_written = given.value_source(id) == Some(ValueSource::CommandLine);
        given.get_raw(id).filter(|_| is_written).map(Iterator::collect).unwrap_or_default()
    };
    let all: Vec<(&Arg, Vec<&OsStr>)> = command.get_positionals().map(|arg| (arg, words(arg))).collect();
    let Some(first) = words(file).first().copied() else { return true };
    let takes_more =
        all.iter().any(|(arg, words)| words.is_empty() || arg.get_num_args().is_some_and(|most| most.max_values() > 1));
    // All have their words; or a command takes no other.
    takes_more && all.len() > 1 && !is_file(first) && !is_word_for_query(&all, first)
}

/// Whether a word names a pipeline file: it is there, or ends like one.
fn is_file(word: &OsStr) -> bool {
    let path = Path::new(word);
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml")) || path.is_file()
}

/// Whether a command takes a query, and a word is too short to be one.
fn is_word_for_query(all: &[(&Arg, Vec<&OsStr>)], word: &OsStr) -> bool {
    let takes_query = all.iter().any(|(arg, _)| arg.get_id() == "query");
    takes_query && !word.to_string_lossy().contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    /// Whether the words of a command leave out FILE.
    fn lacks(words: &str) -> bool {
        let all = Arguments::command();
        let words: Vec<String> = words.split('|').map(str::to_owned).collect();
        let parsed =
            all.clone().ignore_errors(true).try_get_matches_from([&["tessera".to_owned()], &words[..]].concat()).unwrap();
        let (name, given) = parsed.subcommand().unwrap();
        let command = all.find_subcommand(name).unwrap();
        file(command).is_some_and(|file| leaves_out(command, given, file))
    }

    #[test]
    fn a_file_is_told_from_what_stands_behind_it() {
        let without = [
            "run",
            "run|--to|clusters",
            "--threads|2|run|--limit|5",
            "sql",
            "sql|SELECT 1",
            "sql|--format|csv|SELECT 1",
            "status",
            "export|assigned|-o|a.csv",
            "show|assigned|-o|a.png",
            "diff|assigned",
            "diff|assigned|previous|current",
            "report",
            "report|clusters|assigned",
            "report|clusters@k=5",
            "path|assigned",
            "gc|--delete",
        ];
        for words in without {
            assert!(lacks(words), "{words}");
        }
        let with = [
            "run|other.toml",
            "run|other",
            "run|--to|a|x.toml",
            "sql|x.toml",
            "sql|x.toml|SELECT 1",
            "sql|x|SELECT 1",
            "sql|x",
            "check|folder",
            "export|x.toml",
            "export|x|assigned|-o|a.csv",
            "diff|x.toml|assigned",
            "report|x.toml",
            "operators|kmeans",
            "operators",
            "init|photos",
        ];
        for words in with {
            assert!(!lacks(words), "{words}");
        }
    }

    #[test]
    fn a_wrong_value_before_the_file_is_told_as_such() {
        let words = ["tessera", "sql", "--memory", "much", "elsewhere.toml", "SELECT 1"].map(OsString::from).to_vec();
        assert_eq!(with_file(&Arguments::command(), words.clone()).ok(), Some(words));
    }

    #[test]
    fn usage_says_that_it_may_be_left_out() {
        let usage = |name: &str| {
            let mut all = with_optional_file(Arguments::command());
            all.find_subcommand_mut(name).unwrap().render_usage().to_string()
        };
        assert_eq!(usage("sql"), "Usage: tessera sql [OPTIONS] [FILE] [QUERY]");
        assert_eq!(usage("operators"), "Usage: operators [OPTIONS] [NAME]");
    }
}
