use std::collections::HashMap;

use arrow::array::{Array as _, Int8Array, Int32Array, Int64Array, LargeStringArray, StringArray, UInt64Array};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::whole::WINDOW;
use super::*;

/// What each row says, for a person.
fn rows(columns: &[ArrayRef]) -> Vec<String> {
    let options = FormatOptions::new().with_null("\0");
    let formats: Vec<_> = columns.iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row =
        |row| formats.iter().map(|format| format!("{:?}", format.value(row).to_string())).collect::<Vec<_>>().join(",");
    (0..columns[0].len()).map(row).collect()
}

/// Interns batches of columns of one kind each, and looks whether rows that are equal have one number, and numbers are counted up.
fn check(batches: &[Vec<ArrayRef>]) -> Groups {
    let kinds: Vec<DataType> = batches[0].iter().map(|column| column.data_type().clone()).collect();
    let (mut groups, mut ids, mut known) = (Groups::new(&kinds).unwrap(), vec![99], HashMap::new());
    for columns in batches {
        groups.intern(columns, &mut ids);
        let expected = rows(columns).into_iter().map(|row| {
            let fresh = known.len();
            *known.entry(row).or_insert(fresh)
        });
        assert_eq!(ids, expected.collect::<Vec<_>>());
    }
    assert_eq!(groups.len(), known.len());
    let values = groups.values();
    assert_eq!(values.iter().map(|array| array.data_type().clone()).collect::<Vec<_>>(), kinds);
    let mut expected: Vec<(usize, String)> = known.into_iter().map(|(row, number)| (number, row)).collect();
    expected.sort();
    assert_eq!(rows(&values), expected.into_iter().map(|(_, row)| row).collect::<Vec<_>>());
    assert!(groups.size() > 0 || groups.len() == 0);
    groups
}

fn whole(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

#[test]
fn values_far_apart_and_close_together_have_their_numbers() {
    let far = [i64::MIN, i64::MAX, -1, 0, 1, WINDOW, -WINDOW, i64::MIN + 1];
    for first in far {
        for second in far {
            check(&[
                vec![whole(vec![first, second, first])],
                vec![whole(vec![second, 5, first])],
                vec![whole(far.to_vec())],
            ]);
        }
    }
    // Far ones that a wider window takes in, upwards and downwards.
    let up = [0, WINDOW + 10, 7].map(|value| vec![whole(vec![value])]);
    check(&[&up[..], &[vec![whole(vec![WINDOW - 1])], vec![whole(vec![WINDOW + 10, 0, 7])]]].concat());
    let down: Vec<_> = (0..3000).rev().step_by(7).map(|value| vec![whole(vec![value, value + 1])]).collect();
    check(&down);
    check(&[vec![whole(vec![i64::MIN + 3])], vec![whole(vec![i64::MIN])], vec![whole(vec![i64::MIN + 1, i64::MIN + 9])]]);
    check(&[vec![whole(vec![])], vec![whole(vec![3])]]);
}

#[test]
fn nulls_and_all_types_have_groups() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(0), None, Some(i32::MAX)])),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None, Some(1 << 63)])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)])),
        Arc::new(StringArray::from(vec![Some(""), None, Some("null"), Some("é")])),
        Arc::new(LargeStringArray::from(vec![None, Some(""), Some("x"), Some("")])),
        Arc::new(StringViewArray::from(vec![Some("a text of more than twelve bytes"), None, Some(""), Some("a")])),
    ];
    for column in &columns {
        check(&[vec![column.clone()], vec![column.slice(1, 2)]]);
    }
    check(&[columns.clone(), columns.iter().map(|column| column.slice(1, 3)).collect()]);
    assert!(!has_groups(&DataType::Float32) && Groups::new(&[DataType::Float64]).is_err());
}

#[test]
fn views_of_equal_texts_have_one_number_wherever_they_lie() {
    let long = |at: usize| format!("a text of more than twelve bytes, {at}");
    let texts: Vec<String> =
        (0..2000).map(|at| if at % 3 == 0 { format!("{}", at % 600) } else { long(at % 900) }).collect();
    let view = |texts: &[String]| -> Vec<ArrayRef> { vec![Arc::new(StringViewArray::from_iter_values(texts))] };
    check(&[view(&texts), view(&texts[7..900]), view(&[long(1), long(2), long(1), "1".into()])]);
}

#[test]
fn pairs_that_are_too_many_for_an_array_have_numbers_too() {
    let step = |start: usize| {
        vec![whole((start..start + 500).map(|v| v as i64).collect()), whole((0..500).map(|v| v * 3).collect())]
    };
    let batches: Vec<_> = (0..8).map(|at| step(at * 500)).chain([step(0), step(3500)]).collect();
    let groups = check(&batches);
    assert!(!groups.pairs[0].far.is_empty(), "4000 x 500 pairs go beyond the array");
    let few = check(&[step(0), step(250), step(0)]);
    assert!(few.pairs[0].far.is_empty());
}

proptest! {
    #[test]
    fn rows_have_one_number_if_and_only_if_they_are_equal(
        batches in proptest::collection::vec(
            proptest::collection::vec((proptest::option::of(-9_i64..9), proptest::option::of("[ab]{0,2}"), any::<bool>(), any::<i64>()), 0..40),
            1..5,
        ),
    ) {
        let column = |rows: &[(Option<i64>, Option<String>, bool, i64)]| -> Vec<ArrayRef> {
            vec![
                Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| row.1.clone()).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| Some(row.2)).collect::<BooleanArray>()),
                Arc::new(rows.iter().map(|row| row.3 % 3 * (i64::MAX / 2)).collect::<Int64Array>()),
            ]
        };
        let columns: Vec<_> = batches.iter().map(|rows| column(rows)).collect();
        check(&columns);
        let firsts: Vec<_> = columns.iter().map(|columns| columns[..1].to_vec()).collect();
        check(&firsts);
    }
}
