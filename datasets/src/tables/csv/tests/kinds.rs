//! The files that people have: what is read of each, or the error that says what to write.

use super::super::super::tests::{refusal, table};
use super::told;

/// A file's bytes, and its table as [`told`] or the error.
const KINDS: &[(&[u8], &str)] = &[
    // Line ends, and what is around the rows.
    (b"n,word\n1,a\n2,b\n", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n,word\r\n1,a\r\n2,b\r\n", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n,word\r1,a\r2,b\r", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n,word\n1,a\n2,b", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n,word\r\n1,a\n2,b\r", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"\xef\xbb\xbfn,word\n1,a\n", "n:Int64 word:Utf8; 1|a"),
    (b"\n\nn,word\n\n1,a\n\r\n\n2,b\n\n", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n\n1\n\n2\n", "n:Int64; 1; 2"),
    (b"n\n1\n\"\"\n2\n", "n:Int64; 1; null; 2"),
    (b"n,word\n", "n:Utf8 word:Utf8"),
    (b"n,word", "n:Utf8 word:Utf8"),
    (b"", "a.csv: is empty; the first line of a CSV file names its columns"),
    (b"\xef\xbb\xbf\n\r\n", "a.csv: is empty; the first line of a CSV file names its columns"),
    // Separators.
    (b"n;word\n1;a,b\n", "n:Int64 word:Utf8; 1|a,b"),
    (b"n\tword\n1\ta b\n", "n:Int64 word:Utf8; 1|a b"),
    (b"n|word\n1|a\n", "n:Int64 word:Utf8; 1|a"),
    (b"n;f\n1;1,5\n2;2,5\n", "n:Int64 f:Utf8; 1|1,5; 2|2,5"),
    (b"sep=;\r\nn;word\r\n1;a\r\n", "n:Int64 word:Utf8; 1|a"),
    (b"\"n;m\",word\n\"1;2\",a\n", "n;m:Utf8 word:Utf8; 1;2|a"),
    (b"word\nSmith, J\n", "a.csv: line 2 has 2 values, and line 1 names 1 column"),
    (b"n,word,\n1,a,\n2,b,\n", "n:Int64 word:Utf8; 1|a; 2|b"),
    (b"n,word\n1,a,\n2,b,\n", "n:Int64 word:Utf8; 1|a; 2|b"),
    // Numbers, and what only looks like them.
    (b"id,n\n007,7\n8,8\n", "id:Utf8 n:Int64; 007|7; 8|8"),
    (b"f\n0.5\n1\n1e5\n-.5\n", "f:Float64; 0.5; 1.0; 100000.0; -0.5"),
    (b"f\nNaN\n1\n-inf\n", "f:Float64; NaN; 1.0; -inf"),
    (b"n\n9223372036854775807\n", "n:Int64; 9223372036854775807"),
    (b"n\n9223372036854775808\n1\n", "n:Utf8; 9223372036854775808; 1"),
    (b"n\n9007199254740993\n0.5\n", "n:Utf8; 9007199254740993; 0.5"),
    (b"n,m\n\"1,234\",1\n", "n:Utf8 m:Int64; 1,234|1"),
    (b"n\n+4912345\n", "n:Utf8; +4912345"),
    (b"n\n\"7\"\n\"8\"\n", "n:Int64; 7; 8"),
    (b"n\n\"007\"\n", "n:Utf8; 007"),
    (b"n, m\n1, 2\n3, 4\n", "n:Int64 m:Int64; 1|2; 3|4"),
    (b"n\n0x10\n", "n:Utf8; 0x10"),
    // Truth values, nulls, dates.
    (b"b,c\nTRUE,true\nfalse,False\n", "b:Boolean c:Boolean; true|true; false|false"),
    (b"b\ntrue\n0\n", "b:Utf8; true; 0"),
    (b"n,m,k\n1,NA,\n,2,\"\"\n", "n:Int64 m:Utf8 k:Utf8; 1|NA|null; null|2|null"),
    (b"n,m\n1,null\n2,None\n", "n:Int64 m:Utf8; 1|null; 2|None"),
    (b"day,time\n2024-01-31,2024-01-31T12:00:00\n", "day:Utf8 time:Utf8; 2024-01-31|2024-01-31T12:00:00"),
    // Quotes.
    (b"n,word\n1,\"a, b\"\n2,\"a \"\"b\"\"\"\n", "n:Int64 word:Utf8; 1|a, b; 2|a \"b\""),
    (b"n,word\n1,\"a\r\nb\"\n", "n:Int64 word:Utf8; 1|a\r\nb"),
    (b"n,word\n1,5\" tall\n", "n:Int64 word:Utf8; 1|5\" tall"),
    (b"n,word\n1,a\n2,\"b\n3,c\n", "a.csv: line 3: the quote that opens a value there is not closed before the file ends"),
    (
        b"n,word\n1,\"5\" tall\n",
        "a.csv: line 2: text follows the closing quote of a value where a separator should be; quotes within a quoted value are \
         doubled: \"a \"\"b\"\" c\"",
    ),
    (
        b"n,word\n1,\"a\n2,b\n3,\"c\"\n",
        "a.csv: line 4: text follows the closing quote of a value, which opens in line 2, where a separator should be; quotes within \
         a quoted value are doubled: \"a \"\"b\"\" c\"",
    ),
    (
        b"n,word\n1, \"a, b\"\n",
        "a.csv: line 2: a space comes before a value's opening quote; drop it, or put the space into the quotes",
    ),
    // Rows of other lengths.
    (b"n,word\n1,a\n2\n", "a.csv: line 3 has 1 value, and line 1 names 2 columns"),
    (b"n,word\n\n1,a\n2,b,c\n", "a.csv: line 4 has 3 values, and line 1 names 2 columns"),
    (b"n,word\n1,a\n2,b,,\n", "a.csv: line 3 has 4 values, and line 1 names 2 columns"),
    (
        b"n,word\n1,\"a\n2,b\"\n3,\"x\ny\",z\n",
        "a.csv: the row of lines 4 to 5 has 3 values, and line 1 names 2 columns; a quoted value there goes over several lines, so a \
         quote may be missing or be too much",
    ),
    // Names.
    (b"n,n\n1,2\n", "a.csv: has two columns named `n`"),
    (b",n\n0,7\n1,8\n", "column_1:Int64 n:Int64; 0|7; 1|8"),
    (b"n,,m\n0,7,1\n", "n:Int64 column_2:Int64 m:Int64; 0|7|1"),
    (b"n,m,\n0,7,1\n", "n:Int64 m:Int64 column_3:Int64; 0|7|1"),
    (b" n ,\" m\"\n1,2\n", "n:Int64 m:Int64; 1|2"),
    (
        b"1,2\n3,4\n",
        "a.csv: line 1 should name the columns and has numbers alone: write `header = false` if it is a row, or `header = true` if \
         they are names",
    ),
    (b"1,a\n3,b\n", "1:Int64 a:Utf8; 3|b"),
    (b"image_id,label\n007.jpg,1\n12,2\n", "image_id:Utf8 label:Int64; 007.jpg|1; 12|2"),
    (b"image_id\n1\n2\n", "image_id:Utf8; 1; 2"),
    (b"label,image_id\n1,\n", "a.csv: row 0: `image_id` is null"),
    // Lists.
    (b"v,w\n\"[1.0, 2]\",a\n\"[3,4]\",b\n", "v:Float32x2 w:Utf8; [1.0, 2.0]|a; [3.0, 4.0]|b"),
    (b"v\n\"[1, 2]\"\n\"[3,4]\"\n", "v:Utf8; [1, 2]; [3,4]"),
    (b"v,w\n\"[1.0, 2]\",a\n\"[3]\",b\n", "v:Utf8 w:Utf8; [1.0, 2]|a; [3]|b"),
    (b"v,w\n\"[1.0, 2]\",a\n,b\n", "v:Utf8 w:Utf8; [1.0, 2]|a; null|b"),
    (b"v,w\n\"[1.0,null]\",a\n", "v:Utf8 w:Utf8; [1.0,null]|a"),
    // What is no UTF-8 text.
    (b"\xff\xfen\0\n\0", "a.csv: is UTF-16 text, and UTF-8 can be read: convert it (iconv -f UTF-16 -t UTF-8)"),
    (
        b"n\0\n\x001\0\n\0",
        "a.csv: line 1: has a NUL byte, and text has none; if the file is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8",
    ),
    (
        b"n,word\n1,a\0b\n",
        "a.csv: line 2: has a NUL byte, and text has none; if the file is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8",
    ),
    (
        b"n,word\n1,a\n2,caf\xe9\n",
        "a.csv: line 3: the byte 0xe9 is not UTF-8 text; if the file is Latin-1, as Windows and Excel write it, convert it: iconv -f \
         WINDOWS-1252 -t UTF-8",
    ),
    (b"PK\x03\x04\x14\0", "a.csv: is a ZIP archive, as Excel's workbooks are: save the sheet as CSV"),
    ("größe,名\n1,\u{1f408}\n".as_bytes(), "größe:Int64 名:Utf8; 1|\u{1f408}"),
];

#[test]
fn files_that_people_have_are_read_or_refused_with_what_to_write() {
    assert!(KINDS.len() >= 40);
    let mut wrong = Vec::new();
    for (bytes, expected) in KINDS {
        let input = String::from_utf8_lossy(bytes);
        let file = [("a.csv", bytes.to_vec())];
        let found = match table(&file) {
            Ok(found) => told(&found, input.contains("image_id")),
            Err(_) => refusal(&file),
        };
        if found != *expected {
            wrong.push(format!("{input:?}\n   found {found:?}\nexpected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), KINDS.len(), wrong.join("\n"));
}

#[test]
fn a_tsv_has_tabs() {
    let found = table(&[("a.tsv", b"n,m\tword\n1,2\tx\n".to_vec())]).unwrap();
    assert_eq!(told(&found, false), "n,m:Utf8 word:Utf8; 1,2|x");
    let found = table(&[("a.tsv", b"n,m\n1,2\n".to_vec())]).unwrap();
    assert_eq!(told(&found, false), "n,m:Utf8; 1,2");
}
