use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Float32Type, Float64Type};
use arrow::util::display::array_value_to_string;
use tessera_schemas::{text, vector};

use super::super::tests::{folder, listed_as, refusal, refusal_as, table, table_as};
use super::super::{Reading, csv::ColumnType};
use super::*;

mod kinds;
mod rates;

/// A table as `n:Int64 word:Utf8; 1|a; 2|null`, without the ids that are the rows' numbers.
fn told(found: &RecordBatch, has_ids: bool) -> String {
    let schema = found.schema();
    let columns: Vec<usize> =
        (0..found.num_columns()).filter(|&at| has_ids || schema.field(at).name() != IMAGE_ID).collect();
    let field = |&at: &usize| {
        let field = schema.field(at);
        match field.data_type() {
            DataType::FixedSizeList(item, width) => format!("{}:{}x{width}", field.name(), item.data_type()),
            kind => format!("{}:{kind}", field.name()),
        }
    };
    let value = |row: usize, &at: &usize| {
        let column = found.column(at);
        if column.is_null(row) { "null".to_owned() } else { array_value_to_string(column, row).unwrap() }
    };
    let mut lines = vec![columns.iter().map(field).collect::<Vec<_>>().join(" ")];
    lines.extend((0..found.num_rows()).map(|row| columns.iter().map(|at| value(row, at)).collect::<Vec<_>>().join("|")));
    lines.join("; ")
}

fn reading(types: &[(&str, ColumnType)], separator: Option<u8>, header: Option<bool>) -> Reading {
    let types = types.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    Reading { csv: CsvOptions { types, separator, header }, ..Reading::default() }
}

fn bytes(text: impl Into<String>) -> Vec<u8> {
    text.into().into_bytes()
}

#[test]
fn types_that_are_said_are_read() {
    let types = [
        ("i", ColumnType::Int),
        ("f", ColumnType::Float),
        ("t", ColumnType::Text),
        ("b", ColumnType::Bool),
        ("v", ColumnType::Vector),
    ];
    let text = "i,f,t,b,v,rest\n007,+1,1,0,\"[1, 2]\",1\n+5,2,,TRUE,\"[3,4]\",2\n,,3,,\"[5,6]\",\n";
    let found = table_as(&[("a.csv", bytes(text))], &reading(&types, None, None)).unwrap();
    assert_eq!(
        told(&found, false),
        "i:Int64 f:Float64 t:Utf8 b:Boolean v:Float32x2 rest:Int64; 7|1.0|1|false|[1.0, 2.0]|1; 5|2.0|null|true|[3.0, 4.0]|2; \
         null|null|3|null|[5.0, 6.0]|null"
    );
    let refused = |name: &str, kind: ColumnType, text: &str| {
        refusal_as(&[("a.csv", bytes(text))], &reading(&[(name, kind)], None, None))
    };
    let expected = [
        (ColumnType::Int, "n\n1\nx\n", "a.csv: line 3: `n` should be a whole number, found `x`"),
        (ColumnType::Int, "n\n1.5\n", "a.csv: line 2: `n` should be a whole number, found `1.5`"),
        (
            ColumnType::Int,
            "n\n99999999999999999999\n",
            "a.csv: line 2: `n` should be a whole number of 64 bits, found `99999999999999999999`",
        ),
        (ColumnType::Float, "n;m\n1,5;1\n", "a.csv: line 2: `n` should be a number, found `1,5`"),
        (ColumnType::Float, "n\nNA\n", "a.csv: line 2: `n` should be a number, found `NA`"),
        (ColumnType::Bool, "n\nyes\n", "a.csv: line 2: `n` should be true or false, found `yes`"),
        (
            ColumnType::Vector,
            "n\n\"[1,2]\"\n\"[1]\"\n",
            "a.csv: line 3: `n` should be a list of 2 numbers (this one has 1), found `[1]`",
        ),
        (ColumnType::Vector, "n\n\"[1,2]\"\nx\n", "a.csv: line 3: `n` should be a list of 2 numbers, found `x`"),
        (ColumnType::Vector, "n,m\n", "a.csv: no row says how long the vectors of `n` are, and `types` wants vectors"),
        (ColumnType::Vector, "n_0,n_1\n1,2\n1,x\n", "a.csv: line 3: `n_1` should be a number, found `x`"),
    ];
    for (kind, text, message) in expected {
        assert_eq!(refused("n", kind, text), message);
    }
    let long = format!("n\n{}\n", "é".repeat(200));
    assert!(refused("n", ColumnType::Int, &long).ends_with(&format!("found `{}…`", "é".repeat(60))));
}

#[test]
fn names_in_types_are_the_tables() {
    let reading = reading(&[("word", ColumnType::Text), ("nn", ColumnType::Int), (IMAGE_ID, ColumnType::Int)], None, None);
    let (_, schema) = listed_as(&folder(&[("a.csv", bytes("image_id,n,word\n1,2,3\n"))]), &reading).unwrap();
    let faults = reading.csv.faults(&schema);
    let expected = [
        ("image_id".to_owned(), "`image_id` is \"text\" always".to_owned()),
        ("nn".to_owned(), "the table has no column `nn`; there are image_id, n, word".to_owned()),
    ];
    assert_eq!(faults, expected);
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
}

#[test]
fn separators_and_names_that_are_said_are_used() {
    let commas = bytes("a,b;c\n1,2;3\n");
    let found = table_as(&[("a.csv", commas.clone())], &reading(&[], Some(b';'), None)).unwrap();
    assert_eq!(told(&found, false), "a,b:Utf8 c:Int64; 1,2|3");
    assert_eq!(told(&table(&[("a.csv", commas)]).unwrap(), false), "a:Int64 b;c:Utf8; 1|2;3");
    let found = table_as(&[("a.csv", bytes("1 2\n3 4\n"))], &reading(&[], Some(b' '), Some(false))).unwrap();
    assert_eq!(told(&found, false), "column_1:Int64 column_2:Int64; 1|2; 3|4");
    let found = table_as(&[("a.csv", bytes("0,1\n3,4\n"))], &reading(&[], None, Some(true))).unwrap();
    assert_eq!(told(&found, false), "0:Int64 1:Int64; 3|4");
    let types = [("column_2", ColumnType::Text)];
    let quoted = bytes("\"x \"\"y\"\"\",1\nz,2\n");
    let found = table_as(&[("a.csv", quoted)], &reading(&types, None, Some(false))).unwrap();
    assert_eq!(told(&found, false), "column_1:Utf8 column_2:Utf8; x \"y\"|1; z|2");
    let ragged = refusal_as(&[("a.csv", bytes("1,2\n3\n"))], &reading(&[], None, Some(false)));
    assert_eq!(ragged, "a.csv: line 2 has 1 value, and line 1 has 2");
    let other = refusal_as(&[("a.npy", Vec::new())], &reading(&[], None, Some(false)));
    assert_eq!(other, "a.npy: is no CSV file, and `types`, `separator` and `header` say how to read such files");
}

#[test]
fn the_last_value_of_many_decides_the_type() {
    let rows = 3 * super::super::FIRST_ROWS;
    for (last, expected) in [("word", "Utf8"), ("2.5", "Float64"), ("007", "Utf8"), ("", "Int64"), ("true", "Utf8")] {
        let text = format!("n,m\n{}{last},\n", "1,\n".repeat(rows));
        let found = table(&[("a.csv", bytes(text))]).unwrap();
        assert_eq!(found.schema().field(1).data_type().to_string(), expected, "{last}");
        assert_eq!((found.num_rows(), found.column(1).is_null(rows)), (rows + 1, last.is_empty()));
        if expected == "Utf8" {
            let words = text_of(&found, "n");
            assert_eq!((words[0].as_str(), words[rows].as_str()), ("1", last));
        }
    }
}

fn text_of(found: &RecordBatch, name: &str) -> Vec<String> {
    text(found, name).unwrap().iter().map(|value| value.unwrap_or("null").to_owned()).collect()
}

#[test]
fn files_decide_together() {
    let wide = table(&[("1.csv", bytes("n,m\n9007199254740993,1\n")), ("2.csv", bytes("m;n\n2;0.5\n"))]).unwrap();
    assert_eq!(told(&wide, false), "n:Utf8 m:Int64; 9007199254740993|1; 0.5|2");
    let spread = |width: usize| {
        let names = (0..width).map(|at| format!("feature_{at}")).collect::<Vec<_>>().join(",");
        bytes(format!("{names}\n{}\n", vec!["1.5"; width].join(",")))
    };
    let found = table(&[("1.csv", spread(3)), ("2.csv", spread(3))]).unwrap();
    assert_eq!(told(&found, false), "feature:Float32x3; [1.5, 1.5, 1.5]; [1.5, 1.5, 1.5]");
    let message = refusal(&[("1.csv", spread(3)), ("2.csv", spread(2))]);
    assert!(message.starts_with("2.csv: column `feature` is FixedSizeList") && message.ends_with("in 1.csv"), "{message}");
    let lists = |text: &str| bytes(format!("v,w\n\"{text}\",a\n"));
    let found = table(&[("1.csv", lists("[1.5]")), ("2.csv", lists("[2.5, 3]"))]).unwrap();
    assert_eq!(told(&found, false), "v:Utf8 w:Utf8; [1.5]|a; [2.5, 3]|a");
}

#[test]
fn what_export_writes_of_vectors_is_read_bit_by_bit() {
    let odd = [0.1_f32, -0.0, 1e-45, f32::MAX, f32::NAN, f32::NEG_INFINITY, 16_777_216.0, 1.0 / 3.0];
    let schema = Arc::new(Schema::new(
        (0..4).map(|at| Field::new(format!("feature_{at}"), DataType::Float32, true)).collect::<Vec<_>>(),
    ));
    let columns = (0..4).map(|at| Arc::new(arrow::array::Float32Array::from(vec![odd[at], odd[at + 4]])) as _).collect();
    let mut writer = arrow::csv::Writer::new(Vec::new());
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    let found = table(&[("a.csv", writer.into_inner())]).unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (values, width) = vector(&found, "feature").unwrap();
    assert_eq!((bits(&values), width), (bits(&odd), 4));

    let lists = odd.chunks(2).map(|pair| format!("\"[{:?}, {:?}]\"\n", pair[0], pair[1])).collect::<String>();
    let found = table(&[("a.csv", bytes(format!("v,\n{}", lists.replace('\n', ",\n"))))]).unwrap();
    let (values, width) = vector(&found, "v").unwrap();
    assert_eq!((bits(&values), width), (bits(&odd), 2));
}

#[test]
fn only_columns_of_numbers_without_a_gap_are_a_vector_unasked() {
    let one = |text: &str| told(&table(&[("a.csv", bytes(text))]).unwrap(), false);
    assert_eq!(one("feature_0,feature_1,label\n1,2.5,x\n"), "feature:Float32x2 label:Utf8; [1.0, 2.5]|x");
    assert_eq!(one("feature_0,x\n1.5,x\n"), "feature:Float32x1 x:Utf8; [1.5]|x");
    assert_eq!(one("feature_0,feature_1\n1,\n2,3\n"), "feature_0:Int64 feature_1:Int64; 1|null; 2|3");
    assert_eq!(one("feature_0,feature_1\n1,16777217\n"), "feature_0:Int64 feature_1:Int64; 1|16777217");
    assert_eq!(one("feature_0,feature_2\n1.5,2.5\n"), "feature:Float32x1 feature_2:Float64; [1.5]|2.5");
    assert_eq!(one("feature_1,feature_0\n1.5,2.5\n"), "feature_1:Float64 feature:Float32x1; 1.5|[2.5]");
    assert_eq!(one("feature,feature_0\n1,2\n"), "feature:Int64 feature_0:Int64; 1|2");
    assert_eq!(one("other_0,other_1\n1.5,2.5\n"), "other_0:Float64 other_1:Float64; 1.5|2.5");
    let as_types = |name: &str, kind: ColumnType| {
        let texts = [("a.csv", bytes("other_0,other_1,feature_0,feature_1\n1,2,3,4\n"))];
        told(&table_as(&texts, &reading(&[(name, kind)], None, None)).unwrap(), false)
    };
    assert_eq!(as_types("other", ColumnType::Vector), "other:Float32x2 feature:Float32x2; [1.0, 2.0]|[3.0, 4.0]");
    assert_eq!(
        as_types("feature_1", ColumnType::Float),
        "other_0:Int64 other_1:Int64 feature_0:Int64 feature_1:Float64; 1|2|3|4.0"
    );
}

#[test]
fn compressed_files_are_read_and_damage_is_said() {
    let text = format!("n\tword\n{}", (0..100_000).map(|n| format!("{n}\t0{n}\n")).collect::<String>());
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
    let packed = writer.finish().unwrap();
    for name in ["a.tsv.gz", "a.csv.gz", "A.CSV.GZ"] {
        let found = table(&[(name, packed.clone())]).unwrap();
        assert_eq!((found.num_rows(), text_of(&found, "word")[99_999].as_str()), (100_000, "099999"));
    }
    assert_eq!(
        refusal(&[("a.csv", packed.clone())]),
        "a.csv: is compressed by gzip: let its name end in .csv.gz or .tsv.gz"
    );
    let cut = refusal(&[("a.tsv.gz", packed[..packed.len() / 2].to_vec())]);
    assert!(cut.starts_with("a.tsv.gz: "), "{cut}");
    let mut damaged = packed;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 50].fill(0xa5);
    assert!(refusal(&[("a.tsv.gz", damaged)]).starts_with("a.tsv.gz: "));
}

#[test]
fn rows_across_reads_are_whole_wherever_a_read_ends() {
    // Every kind of line end, quotes and wide characters at each distance from the end of the first read.
    let tail = "\"x\"\"y\",é\r\n\"a\nb\",z\r\"q\",\"\"\"\"\n";
    for shift in 0..tail.len() + 2 {
        let fill = (1 << 20) - tail.len() / 2 - shift;
        let text = format!("k,v\n{},1\n{tail}", "f".repeat(fill));
        let found = table(&[("a.csv", bytes(text))]).unwrap();
        assert_eq!(text_of(&found, "k")[1..], ["x\"y", "a\nb", "q"], "{shift}");
        assert_eq!(text_of(&found, "v"), ["1", "é", "z", "\""], "{shift}");
    }
}

#[test]
fn a_quote_that_nothing_closes_does_not_fill_the_memory() {
    let text = format!("a,b\n1,2\n\"open,3\n{}", "1,2\n".repeat(17 << 20));
    assert_eq!(
        refusal(&[("a.csv", bytes(text))]),
        "a.csv: line 3: the quote that opens a value there is not closed within 64 MiB"
    );
}

#[test]
fn a_file_that_changed_after_it_was_looked_at_is_an_error() {
    let dir = folder(&[("a.csv", bytes("n,m\n1,a\n"))]);
    let (entries, schema) = listed_as(&dir, &Reading::default()).unwrap();
    let read_again = |text: &str| {
        std::fs::write(dir.path().join("a.csv"), text).unwrap();
        let prints: Vec<_> = entries
            .iter()
            .map(|entry| crate::Fingerprint {
                entry: crate::Entry { size: text.len() as u64, ..entry.clone() },
                ..Default::default()
            })
            .collect();
        let files = &crate::local::LocalFiles;
        super::super::read(files, dir.path(), &prints, &schema, &Reading::default(), &mut |_| Ok::<_, Error>(()))
    };
    let message = |text: &str| {
        let message = read_again(text).unwrap_err().to_string();
        message.rsplit("a.csv: ").next().unwrap().to_owned()
    };
    assert!(read_again("n,m\n2,b\n").is_ok());
    assert_eq!(message("n,m\nx,b\n"), "line 2: `n` should be a whole number, found `x`");
    assert_eq!(message("n,k\n1,b\n"), "has no column `m`, which the table has");
    assert_eq!(message("n,m,\n1,b,c\n"), "line 2: the last column has no name, and the value `c`");
}

#[test]
fn floats_are_the_nearest() {
    let found = table(&[("a.csv", bytes("f\n0.1\n1e-400\n123456789012345678.5\n1e400\n.5\n"))]).unwrap();
    let floats = found.column(1).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(floats, [0.1, 0.0, 123_456_789_012_345_680.0, f64::INFINITY, 0.5]);
    let found = table(&[("a.csv", bytes("v\n\"[0.1, 16777217.0]\"\n"))]).unwrap();
    let values = found.column(1).as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec();
    assert_eq!(values, [0.1, 16_777_216.0]);
}
