//! The queries, by kinds. `rows` has 2000 rows of image_id, label, n and x.

/// Queries that would go on for hours in little memory.
pub fn endless() -> [&'static str; 4] {
    [
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        "SELECT sum(a.n * b.n + c.value) FROM rows a, rows b, generate_series(1, 100000000000) c",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT max(power(a.x, b.x)) FROM rows a, rows b, generate_series(1, 100000000000) c",
    ]
}

/// All of them.
pub fn all() -> Vec<String> {
    kinds().into_iter().flatten().collect()
}

/// The first, and one from the middle, of each kind; and some that ended otherwise once.
pub fn few() -> Vec<String> {
    let pick = |kind: Vec<String>| [kind[0].clone(), kind[kind.len() / 2].clone()];
    let ended_otherwise = [
        "SELECT length(rpad(image_id, 1000000000, 'é')) FROM rows",
        "SELECT count(*) FROM rows a, rows b WHERE a.image_id || b.image_id ~ 'a{1000}{1000}'",
        "SELECT x[1][1][1] FROM (SELECT [1] AS x)",
        "SELECT unheard_of(image_id) FROM rows",
    ];
    kinds().into_iter().flat_map(pick).chain(ended_otherwise.map(str::to_owned)).collect()
}

fn kinds() -> Vec<Vec<String>> {
    let mut kinds = vec![
        series(),
        arrays(),
        recursive(),
        cross_joins(),
        texts(),
        patterns(),
        nested(),
        doubling(),
        windows(),
        changes(),
        system(),
        numbers(),
    ];
    let of = |kind: &Vec<String>| [kind[0].clone(), kind[kind.len() / 3].clone(), kind[kind.len() / 2].clone()];
    let explained = kinds.iter().flat_map(of).collect::<Vec<_>>();
    kinds.push(explained.iter().map(|query| format!("EXPLAIN ANALYZE {query}")).collect());
    kinds.push(explained.iter().map(|query| format!("EXPLAIN VERBOSE {query}")).collect());
    kinds
}

/// Each template with each value in place of `@`.
fn each(templates: &[&str], values: &[&str]) -> Vec<String> {
    templates.iter().flat_map(|template| values.iter().map(move |value| template.replace('@', value))).collect()
}

fn series() -> Vec<String> {
    let templates = [
        "SELECT count(*) FROM generate_series(1, @)",
        "SELECT sum(value) FROM range(0, @)",
        "SELECT value FROM generate_series(1, @) ORDER BY value DESC",
        "SELECT array_agg(value) FROM range(0, @)",
        "SELECT string_agg(CAST(value AS VARCHAR), ',') FROM range(0, @)",
        "SELECT count(DISTINCT value) FROM range(0, @)",
        "SELECT value % 1000003, count(*) FROM range(0, @) GROUP BY 1",
        "SELECT median(value) FROM range(0, @)",
        "SELECT value FROM range(0, @) OFFSET 99999999999",
        "SELECT count(*) FROM range(0, @) a JOIN range(0, @) b ON a.value = b.value",
        "SELECT count(*) FROM range(0, @) a JOIN range(0, @) b ON a.value < b.value",
        "SELECT DISTINCT reverse(CAST(value AS VARCHAR)) FROM range(0, @)",
        "SELECT count(*) FROM rows WHERE n IN (SELECT value FROM range(0, @))",
        "SELECT value, repeat('x', 1000) FROM range(0, @) ORDER BY 2, 1 DESC",
    ];
    each(&templates, &["1000000000", "100000000000", "9223372036854775807"])
}

fn arrays() -> Vec<String> {
    let templates = [
        "SELECT range(0, @)",
        "SELECT array_length(generate_series(1, @))",
        "SELECT unnest(range(0, @))",
        "SELECT count(*) FROM (SELECT unnest(range(0, @)) FROM rows)",
        "SELECT array_repeat('abcdefgh', @)",
        "SELECT cardinality(array_repeat(array_repeat(1, 10000), @))",
        "SELECT array_resize([1, 2, 3], @, 7)",
        "SELECT array_length(array_concat(range(0, @), range(0, @)))",
        "SELECT length(array_to_string(range(0, @), ','))",
        "SELECT array_sum(range(0, @))",
        "SELECT array_distinct(range(0, @))",
        "SELECT array_sort(range(0, @), 'DESC')",
        "SELECT range(0, @ + n) FROM rows",
        "SELECT array_repeat(n, @) FROM rows",
    ];
    let mut queries = each(&templates, &["100000000", "3000000000", "1000000000000"]);
    queries
        .push("SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 nanosecond')".to_owned());
    queries.push("SELECT range(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day') FROM rows a, rows b".to_owned());
    queries.push(format!("SELECT {}", (0..200).fold("[1]".to_owned(), |array, _| format!("[{array}]"))));
    queries.push(format!("SELECT {}", (0..24).fold("[1]".to_owned(), |array, _| format!("array_concat({array}, [1])"))));
    queries.push(format!("SELECT make_array({})", vec!["repeat('x', 100000000)"; 60].join(", ")));
    queries
}

fn recursive() -> Vec<String> {
    let steps = [
        "SELECT 1 AS n UNION ALL SELECT n + 1 FROM t",
        "SELECT 'x' AS n UNION ALL SELECT n || n FROM t",
        "SELECT 1 AS n UNION ALL SELECT n FROM t CROSS JOIN (VALUES (1), (2)) AS v(k)",
        "SELECT 1 AS n UNION ALL SELECT a.n + 1 FROM t a CROSS JOIN rows",
        "SELECT 1 AS n UNION SELECT n + 1 FROM t",
        "SELECT repeat('x', 1000000) AS n UNION ALL SELECT n FROM t",
        "SELECT [1] AS n UNION ALL SELECT array_concat(n, n) FROM t",
        "SELECT n FROM rows UNION ALL SELECT n * 2 % 1000003 FROM t",
    ];
    let ends = ["SELECT count(*) FROM t", "SELECT * FROM t", "SELECT max(n) FROM t", "SELECT * FROM t ORDER BY n"];
    let of = |step: &str| ends.map(|end| format!("WITH RECURSIVE t AS ({step}) {end}"));
    steps.iter().flat_map(|step| of(step)).collect()
}

fn cross_joins() -> Vec<String> {
    let tables = |count: usize| (0..count).map(|at| format!("rows t{at}")).collect::<Vec<_>>().join(", ");
    let asked = [
        "SELECT sum(t0.n * t1.n) FROM @",
        "SELECT * FROM @ ORDER BY t0.x + t1.x DESC",
        "SELECT DISTINCT t0.image_id || t1.image_id FROM @",
        "SELECT t0.n, t1.n, count(*) FROM @ GROUP BY t0.n, t1.n",
        "SELECT string_agg(t0.image_id, t1.image_id) FROM @",
        "SELECT array_agg(t1.image_id ORDER BY t0.x) FROM @",
        "SELECT t0.image_id, t1.x FROM @ ORDER BY t1.x LIMIT 50000000",
        "SELECT count(*) FROM @ WHERE t0.n + t1.n = -1",
        "SELECT approx_distinct(t0.image_id || t1.image_id), median(t0.n * t1.n) FROM @",
    ];
    let mut queries: Vec<String> = (2..=6).flat_map(|count| asked.map(|query| query.replace('@', &tables(count)))).collect();
    queries.push("SELECT count(*) FROM rows a FULL JOIN rows b ON a.n < b.n FULL JOIN rows c ON b.n < c.n".to_owned());
    queries.push("SELECT a.n, (SELECT count(*) FROM rows b, rows c WHERE b.n > a.n) FROM rows a".to_owned());
    queries.push("SELECT * FROM rows a, rows b, rows c, rows d".to_owned());
    queries.push("SELECT a.n FROM rows a, rows b, rows c EXCEPT SELECT n FROM rows".to_owned());
    queries
}

fn texts() -> Vec<String> {
    let templates = [
        "SELECT repeat('x', @)",
        "SELECT length(repeat('x', @))",
        "SELECT length(repeat(image_id, @)) FROM rows",
        "SELECT length(lpad('x', @, 'ab'))",
        "SELECT length(rpad(image_id, @, 'é')) FROM rows",
        "SELECT length(repeat(repeat('x', 30000), @))",
        "SELECT upper(repeat('x', @)) || reverse(repeat('y', @))",
        "SELECT length(concat(repeat('x', @), repeat('y', @), repeat('z', @)))",
        "SELECT length(replace(repeat('x', @), 'x', 'yyyyyyyyyy'))",
        "SELECT encode(repeat('x', @), 'hex')",
        "SELECT count(*) FROM rows a, rows b WHERE repeat(a.image_id, @) = repeat(b.image_id, @)",
        "SELECT image_id FROM rows ORDER BY repeat(image_id, @)",
        "SELECT max(repeat(image_id, @)) FROM rows GROUP BY n",
        "SELECT string_to_array(repeat('x,', @), ',')",
        "SELECT translate(repeat('x', @), 'x', 'y')",
    ];
    let mut queries = each(&templates, &["1000000", "1000000000", "1000000000000"]);
    let tree = (0..12).fold("image_id".to_owned(), |text, _| format!("concat({text}, {text})"));
    queries.push(format!("SELECT length({tree}) FROM rows a"));
    let tower = (0..8).fold("'xxxxxxxxxx'".to_owned(), |text, _| format!("repeat({text}, 100)"));
    queries.push(format!("SELECT length({tower})"));
    queries.push(format!("SELECT length({}) FROM rows", vec!["repeat(image_id, 100000)"; 200].join(" || ")));
    queries
}

fn patterns() -> Vec<String> {
    let templates = [
        "SELECT regexp_count(repeat('a', 10000000), @)",
        "SELECT count(*) FROM rows a, rows b, rows c WHERE a.image_id || b.image_id ~ @",
        "SELECT length(regexp_replace(repeat('a', 3000000), @, 'bbbbbbbbbb', 'g'))",
        "SELECT regexp_match(repeat('ab', 30000000), @)",
    ];
    let patterns = [
        "'(a+)+$'",
        "'(a|aa)+b'",
        "'(.*)(.*)(.*)(.*)x'",
        "'a{1000}{1000}'",
        "'((((a{90}){90}){90}){90})'",
        "repeat('(a|b)', 100000)",
    ];
    let mut queries = each(&templates, &patterns);
    queries
        .push("SELECT count(*) FROM rows a, rows b, rows c WHERE repeat(a.image_id, 50) LIKE '%0%1%2%3%4%5%6%'".to_owned());
    queries.push("SELECT count(*) FROM rows a, rows b WHERE a.image_id ~ repeat(b.image_id, 1000)".to_owned());
    queries.push("SELECT levenshtein(repeat('ab', 1000000), repeat('ba', 1000000))".to_owned());
    queries.push("SELECT sum(levenshtein(repeat(a.image_id, 100), repeat(b.image_id, 100))) FROM rows a, rows b".to_owned());
    queries
}

fn nested() -> Vec<String> {
    let mut queries = Vec::new();
    for depth in [40, 400, 8000, 100_000] {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        queries.push(format!("SELECT {open}1{close}"));
        queries.push(format!("SELECT {}1{}", "(SELECT ".repeat(depth), close));
        queries.push(format!("SELECT * FROM {}rows{close}", "(SELECT * FROM ".repeat(depth)));
        queries.push(format!("SELECT {}1{}", "CASE WHEN n = 1 THEN ".repeat(depth), " END".repeat(depth)) + " FROM rows");
        queries.push(format!("SELECT {}n{close} FROM rows", "abs(".repeat(depth)));
        queries.push(format!("SELECT {}1{}", "[".repeat(depth), "]".repeat(depth)));
        queries.push(format!("SELECT {} true", "NOT ".repeat(depth)));
        queries.push(format!("SELECT {}n FROM rows", "- ".repeat(depth)));
        queries.push(format!("SELECT n FROM rows WHERE {}", vec!["n = 1"; depth].join(" OR ")));
        queries.push(format!("SELECT {} FROM rows", vec!["n"; depth].join(" + ")));
        queries.push(format!("SELECT {}", vec!["'x'"; depth].join(" || ")));
        queries.push(vec!["SELECT n FROM rows"; depth].join(" UNION ALL "));
        queries.push(vec!["SELECT n FROM rows"; depth].join(" INTERSECT "));
        queries
            .push(format!("SELECT {} FROM rows", (0..depth).map(|at| format!("n AS c{at}")).collect::<Vec<_>>().join(", ")));
        queries.push(format!(
            "SELECT 1 FROM rows WHERE n IN ({})",
            (0..depth).map(|at| at.to_string()).collect::<Vec<_>>().join(", ")
        ));
        queries.push(format!("SELECT 1 FROM {}", (0..depth).map(|at| format!("rows t{at}")).collect::<Vec<_>>().join(", ")));
        queries.push(format!("SELECT CAST({}n{} FROM rows", "CAST(".repeat(depth), " AS BIGINT)".repeat(depth + 1)));
        queries.push(format!("SELECT n{} FROM rows", "::BIGINT".repeat(depth)));
        queries.push(format!("SELECT x{} FROM (SELECT [1] AS x)", "[1]".repeat(depth)));
        queries.push(format!(
            "SELECT * FROM rows a WHERE {}true{close}",
            "EXISTS (SELECT 1 FROM rows b WHERE b.n = a.n AND ".repeat(depth)
        ));
    }
    queries
}

/// Text that names each thing twice: what it means is twice as large with each step.
fn doubling() -> Vec<String> {
    let mut queries = Vec::new();
    for steps in [12, 20, 28, 60] {
        let columns =
            (0..steps).fold("SELECT n AS a FROM rows".to_owned(), |query, _| format!("SELECT a + a AS a FROM ({query})"));
        queries.push(columns);
        let texts = (0..steps)
            .fold("SELECT image_id AS a FROM rows".to_owned(), |query, _| format!("SELECT a || a AS a FROM ({query})"));
        queries.push(texts);
        let cases = (0..steps).fold("SELECT n AS a FROM rows".to_owned(), |query, _| {
            format!("SELECT CASE WHEN a > 1 THEN a + 1 ELSE a - 1 END AS a FROM ({query})")
        });
        queries.push(cases);
        let with: Vec<String> =
            (1..steps).map(|at| format!("c{at} AS (SELECT x.n FROM c{} x CROSS JOIN c{} y)", at - 1, at - 1)).collect();
        queries.push(format!("WITH c0 AS (SELECT n FROM rows), {} SELECT count(*) FROM c{}", with.join(", "), steps - 1));
        let unions: Vec<String> =
            (1..steps).map(|at| format!("c{at} AS (SELECT n FROM c{0} UNION ALL SELECT n FROM c{0})", at - 1)).collect();
        queries.push(format!("WITH c0 AS (SELECT n FROM rows), {} SELECT count(*) FROM c{}", unions.join(", "), steps - 1));
        let filters = (0..steps).fold("SELECT n AS a FROM rows".to_owned(), |query, _| {
            format!("SELECT a * a - a AS a FROM ({query}) WHERE a > 0 OR a < 10")
        });
        queries.push(filters);
    }
    for columns in [8, 12, 20] {
        let names = (0..columns).map(|at| format!("n % {}", at + 2)).collect::<Vec<_>>().join(", ");
        queries.push(format!("SELECT count(*) FROM rows GROUP BY CUBE({names})"));
        queries
            .push(format!("SELECT count(*) FROM rows a, rows b GROUP BY ROLLUP({})", names.replace("n %", "a.n * b.n %")));
    }
    queries
}

fn windows() -> Vec<String> {
    let tables = ["rows a, rows b", "rows a, rows b, rows c", "rows a, rows b, rows c, rows d"];
    let templates = [
        "SELECT row_number() OVER (ORDER BY a.x * b.n) FROM @",
        "SELECT sum(a.n) OVER (PARTITION BY b.label ORDER BY a.x ROWS BETWEEN 1000000 PRECEDING AND 1000000 FOLLOWING) FROM @",
        "SELECT array_agg(a.image_id) OVER (ORDER BY b.n) FROM @",
        "SELECT string_agg(a.image_id, ',') OVER (ORDER BY b.n ROWS UNBOUNDED PRECEDING) FROM @",
        "SELECT lag(a.image_id, 1000000) OVER (PARTITION BY a.n % 3 ORDER BY b.x) FROM @",
        "SELECT max(b.image_id) OVER (ORDER BY a.n RANGE BETWEEN 1000 PRECEDING AND 1000 FOLLOWING) FROM @",
        "SELECT a.n FROM @ QUALIFY row_number() OVER (PARTITION BY a.n, b.n ORDER BY a.x) <= 100",
        "SELECT median(a.n) OVER (ORDER BY b.x) FROM @",
    ];
    each(&templates, &tables)
}

fn changes() -> Vec<String> {
    let texts = [
        "CREATE TABLE t AS SELECT * FROM rows a, rows b, rows c",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE VIEW t AS SELECT * FROM rows",
        "CREATE SCHEMA s",
        "CREATE DATABASE d",
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1 + 1",
        "INSERT INTO rows SELECT * FROM rows",
        "INSERT INTO rows VALUES ('a', 'b', 1, 2)",
        "DELETE FROM rows",
        "UPDATE rows SET n = 1",
        "TRUNCATE TABLE rows",
        "DROP TABLE rows",
        "DROP VIEW rows",
        "ALTER TABLE rows ADD COLUMN y BIGINT",
        "COPY rows TO '/tmp/hostile.parquet'",
        "COPY (SELECT * FROM rows) TO 's3://bucket/x.csv'",
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.execution.batch_size = 100000000",
        "RESET datafusion.execution.batch_size",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "BEGIN",
        "COMMIT",
        "SHOW ALL",
        "SHOW TABLES",
        "DESCRIBE rows",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE rows",
        "",
        ";",
        "SELECT",
        "EXPLAIN",
        "EXPLAIN EXPLAIN SELECT 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT $1",
        "GRANT ALL ON rows TO PUBLIC",
        "VACUUM",
        "SELECT * FROM snapshot('rows', 'none')",
        "SELECT * FROM rows FOR SYSTEM_TIME AS OF '2020-01-01'",
        "MERGE INTO rows USING rows b ON rows.n = b.n WHEN MATCHED THEN DELETE",
    ];
    texts.map(str::to_owned).into()
}

fn system() -> Vec<String> {
    let tables = ["tables", "columns", "df_settings", "routines", "parameters", "schemata", "views"];
    let of = |name: &str| {
        let tables = (0..5).map(|at| format!("information_schema.{name} t{at}")).collect::<Vec<_>>().join(", ");
        [format!("SELECT count(*) FROM {tables}"), format!("SELECT * FROM {tables} ORDER BY 1 DESC")]
    };
    tables.iter().flat_map(|name| of(name)).collect()
}

fn numbers() -> Vec<String> {
    let templates = [
        "SELECT sum(@) FROM rows a, rows b, rows c",
        "SELECT max(@) OVER () FROM rows a, rows b, rows c",
        "SELECT count(*) FROM rows a JOIN rows b ON @ > 0 JOIN rows c ON true",
    ];
    let terms =
        ["factorial(a.n % 20)", "power(a.n, b.n)", "exp(a.x * b.x)", "gcd(a.n + 1, b.n + 1)", "a.n::DECIMAL(38, 10) * b.n"];
    let mut queries = each(&templates, &terms);
    queries.push("SELECT factorial(9223372036854775807)".to_owned());
    queries.push("SELECT power(10, 1000000000)::DECIMAL(38, 0)".to_owned());
    queries.push("SELECT 9223372036854775807 + n FROM rows".to_owned());
    queries.push("SELECT n / 0, n % 0 FROM rows".to_owned());
    queries.push("SELECT abs(-9223372036854775808)".to_owned());
    queries.push(format!("SELECT {}", "9".repeat(100_000)));
    queries.push(format!("SELECT '{}'", "x".repeat(1_000_000)));
    queries.push("SELECT INTERVAL '9999999999999 years' + now()".to_owned());
    queries.push("SELECT to_timestamp(9223372036854775807) + INTERVAL '1 month' * 999999999".to_owned());
    queries.push("SELECT date_bin(INTERVAL '0 seconds', now())".to_owned());
    queries
}
