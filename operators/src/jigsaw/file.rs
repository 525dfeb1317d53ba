//! Permutations from a file, as other implementations of the puzzles publish them.

use std::path::Path;

use tessera_datasets::local::LocalFiles;
use tessera_datasets::tables;

/// Reads permutations of that many tiles: `.npy`, a matrix with one a row; else text, one a line, numbers separated by commas or
/// blanks. Tiles count from 0, or from 1 where no 0 is in the file.
///
/// # Errors
/// The file cannot be read, a row is no permutation, or one is there twice: a message for its key.
pub fn read(path: &Path, tiles: usize) -> Result<Vec<Vec<u8>>, String> {
    let is_npy = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
    let rows = match is_npy {
        true => tables::integers(&LocalFiles, path).map_err(|error| error.to_string())?,
        false => lines(path)?,
    };
    let first = i64::from(!rows.iter().flatten().any(|&tile| tile == 0));
    let mut seen = std::collections::HashMap::new();
    let mut permutations = Vec::with_capacity(rows.len());
    for (number, row) in (1..).zip(&rows) {
        let fault = |message: String| Err(format!("row {number} of {} {message}", path.display()));
        if row.len() != tiles {
            return fault(format!("has {} numbers, and a puzzle has {tiles} tiles", row.len()));
        }
        let mut sorted = row.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(first..first + tiles as i64) {
            return fault(format!("is no permutation of {first} to {}", first + tiles as i64 - 1));
        }
        let permutation: Vec<u8> = row.iter().map(|&tile| (tile - first) as u8).collect();
        if let Some(before) = seen.insert(permutation.clone(), number) {
            return fault(format!("is that of row {before}"));
        }
        permutations.push(permutation);
    }
    Ok(permutations)
}

/// The lines of a text that are not blank.
fn lines(path: &Path) -> Result<Vec<Vec<i64>>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_between = |character: char| character == ',' || character == ';' || character.is_whitespace();
    let row = |(number, line): (usize, &str)| {
        let words = line.split(is_between).filter(|word| !word.is_empty());
        let numbers = words.map(|word| {
            word.parse().map_err(|_| format!("line {number} of {} holds `{word}`, not a number", path.display()))
        });
        numbers.collect::<Result<Vec<i64>, String>>()
    };
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Vec<u8>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        std::fs::write(&path, text).unwrap();
        read(&path, 4).map_err(|error| error.replace(path.to_str().unwrap(), "p.txt"))
    }

    #[test]
    fn text_may_count_from_nought_or_one() {
        let expected = Ok(vec![vec![1, 0, 2, 3], vec![3, 2, 1, 0]]);
        assert_eq!(read_text("1,0,2,3\n3,2,1,0\n"), expected);
        assert_eq!(read_text("2 1 3 4\r\n\n4\t3 2, 1"), expected);
    }

    #[test]
    fn matrices_of_numpy_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.npy");
        let header = format!("{:<117}\n", "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 4), }");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend([1i64, 0, 2, 3, 3, 2, 1, 0].iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path, 4), Ok(vec![vec![1, 0, 2, 3], vec![3, 2, 1, 0]]));
        assert!(read(&path, 9).unwrap_err().ends_with("p.npy has 4 numbers, and a puzzle has 9 tiles"));
    }

    #[test]
    fn what_is_no_permutation_is_named() {
        let message = |text| read_text(text).unwrap_err();
        assert_eq!(message("0 1 2 3\n0 1 1 3"), "row 2 of p.txt is no permutation of 0 to 3");
        assert_eq!(message("1 2 3 5"), "row 1 of p.txt is no permutation of 1 to 4");
        assert_eq!(message("0 1 2 3\n1 0 2 3\n0 1 2 3"), "row 3 of p.txt is that of row 1");
        assert_eq!(message("0 1 x 3"), "line 1 of p.txt holds `x`, not a number");
        assert!(read(Path::new("/nowhere/p.txt"), 4).unwrap_err().starts_with("/nowhere/p.txt: "));
    }
}
