//! Figures of clusters.

use std::collections::HashMap;

use anyhow::Result;
use maud::{Markup, html};

use super::Shown;
use crate::ask::page::answer::{Answer, short};
use crate::ask::page::draw::bars::{Bar, bars};
use crate::ask::page::draw::heat::heat;
use crate::ask::page::draw::lines::{Below, Chart, Line, chart};
use crate::ask::page::draw::shown;
use crate::ask::page::subjects::Subject;

/// Clusters whose sizes are bars; of more, a line.
const BARS: usize = 60;
/// Images of a cluster that a gallery shows: the nearest, and of the others.
const NEAREST: usize = 6;
const OTHERS: usize = 2;

/// Of each cluster its size, spread and margin; its members; and its classes, where there are any. A mean's last digits depend on the order in which
/// threads come to their rows, and REAL leaves them away.
pub fn gallery_sql(subject: &Subject) -> Vec<String> {
    let table = subject.table();
    let (margin, border) = match subject.has_second {
        true => ("second_distance - distance", format!("WHEN edge <= {OTHERS} THEN 'border' ")),
        false => ("CAST(NULL AS DOUBLE)", String::new()),
    };
    let random = if subject.has_second { OTHERS } else { 2 * OTHERS };
    let facts = format!(
        "SELECT cluster, count(*) AS size, CAST(avg(distance) AS REAL) AS spread, max(distance) AS radius, CAST(avg({margin}) AS REAL) AS margin
FROM {table} WHERE cluster IS NOT NULL GROUP BY cluster ORDER BY size DESC, cluster"
    );
    let members = format!(
        "WITH ranked AS (
  SELECT CAST(cluster AS BIGINT) AS cluster, image_id, distance, {margin} AS margin,
    CAST(row_number() OVER (PARTITION BY cluster ORDER BY distance, image_id) AS BIGINT) AS near,
    CAST(row_number() OVER (PARTITION BY cluster ORDER BY distance DESC, image_id) AS BIGINT) AS far
  FROM {table} WHERE cluster IS NOT NULL),
edges AS (
  SELECT *, CAST(row_number() OVER (PARTITION BY cluster, near <= {NEAREST} OR far <= {OTHERS} ORDER BY margin, image_id) AS BIGINT) AS edge
  FROM ranked),
kinds AS (
  SELECT *, CASE WHEN near <= {NEAREST} THEN 'nearest' WHEN far <= {OTHERS} THEN 'farthest' {border}ELSE 'random' END AS kind FROM edges),
placed AS (
  SELECT *, row_number() OVER (PARTITION BY cluster, kind ORDER BY
    CASE kind WHEN 'nearest' THEN near WHEN 'farthest' THEN far WHEN 'border' THEN edge ELSE (near * 40503 + cluster * 30323) % 65536 END,
    image_id) AS place FROM kinds)
SELECT cluster, kind, image_id, distance, margin FROM placed WHERE kind <> 'random' OR place <= {random}
ORDER BY cluster, CASE kind WHEN 'nearest' THEN 1 WHEN 'border' THEN 2 WHEN 'random' THEN 3 ELSE 4 END, place"
    );
    let classes = subject.classes.as_ref().map(|(pairs, _)| {
        format!(
            "SELECT cluster, label, images FROM (
  SELECT cluster, label, count(*) AS images, row_number() OVER (PARTITION BY cluster ORDER BY count(*) DESC, label) AS place
  FROM ({pairs}) GROUP BY cluster, label)
WHERE place <= 3 ORDER BY cluster, place"
        )
    });
    [facts, members].into_iter().chain(classes).collect()
}

/// Images of each cluster.
pub fn sizes_sql(subject: &Subject) -> Vec<String> {
    vec![format!(
        "SELECT cluster, count(*) AS size FROM {} WHERE cluster IS NOT NULL GROUP BY cluster ORDER BY size DESC, cluster",
        subject.table()
    )]
}

/// Bars of few clusters, a line of many.
pub fn sizes(page: &Shown<'_>) -> Result<Option<Markup>> {
    let answer = &page.answers[0];
    let (clusters, sizes) = (answer.texts("cluster")?, answer.numbers("size")?);
    if answer.is_empty() {
        return Ok(None);
    }
    if answer.len() <= BARS {
        let bar =
            |row: usize| Bar { name: vec![clusters.value(row).to_owned()], value: Some(sizes.value(row)), written: None };
        return Ok(Some(bars(&["cluster", "images"], &(0..answer.len()).map(bar).collect::<Vec<_>>())));
    }
    let points = sizes.values().iter().enumerate().map(|(at, size)| (at as f64 + 1.0, *size, None)).collect();
    let line = Line { name: "images".to_owned(), class: "c0".to_owned(), points, ..Line::default() };
    let below = (Below::Numbers, "clusters, the largest first".to_owned());
    Ok(Some(html! {
        p { (short(answer.len() as f64)) " clusters: the largest has " (short(sizes.value(0))) " images, the smallest " (short(sizes.value(answer.len() - 1))) "." }
        (chart(&Chart { title: "images of a cluster".to_owned(), below, lines: vec![line] }))
    }))
}

/// Measures of agreement, and counts of the largest clusters and classes.
pub fn classes_sql(subject: &Subject) -> Vec<String> {
    let Some((pairs, _)) = &subject.classes else { return Vec::new() };
    vec![
        format!(
            "SELECT count(*) AS images, count(DISTINCT cluster) AS clusters, count(DISTINCT label) AS classes, nmi(cluster, label) AS nmi,
  ami(cluster, label) AS ami, ari(cluster, label) AS ari, purity(cluster, label) AS purity
FROM ({pairs})"
        ),
        format!(
            "WITH pairs AS ({pairs})
SELECT cluster, label, count(*) AS images FROM pairs
WHERE cluster IN (SELECT cluster FROM pairs GROUP BY cluster ORDER BY count(*) DESC, cluster LIMIT 60)
  AND label IN (SELECT label FROM pairs GROUP BY label ORDER BY count(*) DESC, label LIMIT 30)
GROUP BY cluster, label ORDER BY cluster, images DESC, label"
        ),
    ]
}

/// A heat map, clusters of one class beside each other.
pub fn classes(page: &Shown<'_>) -> Result<Option<Markup>> {
    let [agreement, counts] = page.answers else { return Ok(None) };
    let number = |name: &str| agreement.number(name, 0);
    let (images, classes) = (number("images")?.unwrap_or(0.0), number("classes")?.unwrap_or(0.0));
    // Texts that are all different are names, and no classes.
    if images == 0.0 || classes * 2.0 > images.max(4.0) {
        return Ok(None);
    }
    let (rows, columns, cells) = places(counts)?;
    let of = page.subject.classes.as_ref().map_or("", |(_, of)| of.as_str());
    let said = |name: &str| -> Result<String> { Ok(number(name)?.map_or_else(|| "–".to_owned(), short)) };
    Ok(Some(html! {
        p { (short(images)) " images in " (said("clusters")?) " clusters and " (said("classes")?) " classes of " code { (shown(of)) } ": NMI "
            (said("nmi")?) ", AMI " (said("ami")?) ", ARI " (said("ari")?) ", purity " (said("purity")?) "." }
        (heat(["cluster", "class"], &rows, &columns, &cells))
    }))
}

/// Names of rows and columns, and the counts at their places.
pub type Table = (Vec<String>, Vec<String>, HashMap<(usize, usize), f64>);

/// Columns by their counts; rows by the column that they have most of, then by its count. The answer has `cluster`, `label` and `images`.
///
/// # Errors
/// It is another query's.
pub fn places(counts: &Answer) -> Result<Table> {
    let (clusters, labels, images) = (counts.texts("cluster")?, counts.texts("label")?, counts.numbers("images")?);
    let mut sums: HashMap<&str, f64> = HashMap::new();
    (0..counts.len()).for_each(|row| *sums.entry(labels.value(row)).or_default() += images.value(row));
    let mut columns: Vec<&str> = sums.keys().copied().collect();
    columns.sort_by(|a, b| sums[b].total_cmp(&sums[a]).then(a.cmp(b)));
    let column: HashMap<&str, usize> = columns.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut most: HashMap<&str, (f64, usize)> = HashMap::new();
    for row in 0..counts.len() {
        let found = most.entry(clusters.value(row)).or_insert((f64::MIN, 0));
        if images.value(row) > found.0 {
            *found = (images.value(row), column[labels.value(row)]);
        }
    }
    let mut rows: Vec<&str> = most.keys().copied().collect();
    rows.sort_by(|a, b| most[a].1.cmp(&most[b].1).then(most[b].0.total_cmp(&most[a].0)).then(a.cmp(b)));
    let row: HashMap<&str, usize> = rows.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let cell = |at: usize| ((row[clusters.value(at)], column[labels.value(at)]), images.value(at));
    let cells = (0..counts.len()).map(cell).collect();
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    Ok((owned(rows.clone()), owned(columns.clone()), cells))
}
