//! A store in a bucket whose answers are lost, late, or refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::tests::contract;
use super::*;
use crate::store::{Manifest, Store};
use faulty::{Fate, Faulty};

mod faulty;
#[path = "../../../../../tests/moto.rs"]
mod moto;

/// Another process's view of the store.
fn objects(store: &Arc<Faulty>, lapse_ms: u64) -> Objects {
    let bucket = Bucket::over(store.clone(), "s3://bucket/tables", "tables");
    Objects { lapse: Duration::from_millis(lapse_ms), ..Objects::new(bucket) }
}

/// Takes the right to write; says what was told meanwhile, and whether somebody had to be fenced off.
fn take(objects: &Objects) -> anyhow::Result<(Box<dyn Debug + Send>, Vec<String>, usize)> {
    let (said, fenced) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let fence = || {
        fenced.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let held = objects.lock(&Locking { say: &|line| said.lock().unwrap().push(line.to_owned()), fence: &fence })?;
    Ok((held, said.into_inner().unwrap(), fenced.into_inner()))
}

/// Says in the lock that another machine's process has it.
fn of_another_machine(objects: &Objects) {
    let text = String::from_utf8(objects.read("lock").unwrap()).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&text).unwrap();
    body["process"] = serde_json::Value::Null;
    body["holder"] = "process 7 on another machine".into();
    body["token"] = "another".into();
    let key = objects.bucket.key("lock").unwrap();
    let store = objects.bucket.store.clone();
    wait(async move { store.put(&key, body.to_string().into_bytes().into()).await }).unwrap();
}

#[test]
fn a_bucket_keeps_the_contract() {
    contract(&objects(&Faulty::new(), 60_000));
    // The whole of one.
    contract(&Objects::new(Bucket::over(Faulty::new(), "s3://bucket", "")));
}

#[test]
fn a_server_keeps_the_contract() {
    let server = moto::Moto::start();
    let builder = object_store::aws::AmazonS3Builder::new().with_bucket_name("bucket").with_region("us-east-1");
    let builder = builder.with_endpoint(format!("http://127.0.0.1:{}", server.port)).with_allow_http(true);
    let store = Arc::new(builder.with_access_key_id("key").with_secret_access_key("secret").build().unwrap());
    server.make_bucket("bucket");
    contract(&Objects::new(Bucket::over(store, "s3://bucket/tables", "tables")));
}

#[test]
fn a_slow_bucket_keeps_the_contract() {
    let store = Faulty::new();
    store.judged(|_, _| Fate::Late(Duration::from_millis(5)));
    contract(&objects(&store, 60_000));
}

#[test]
fn an_answer_that_is_lost_is_found_out() {
    let store = Faulty::new();
    let objects = objects(&store, 60_000);
    store.judged(|what, _| if what == "put" { Fate::AskedAgain } else { Fate::Answered });
    // The library asks again, and is told that there is something: its own.
    let (held, said, fenced) = take(&objects).unwrap();
    assert_eq!((said.len(), fenced), (0, 0));
    let first = objects.replace_if("p/s/current", b"one", None).unwrap();
    let second = objects.replace_if("p/s/current", b"two", Some(&first)).unwrap();
    assert_eq!(objects.read_version("p/s/current").unwrap(), (b"two".to_vec(), second));
    let mut upload = objects.put("p/s/parts/a.parquet").unwrap();
    upload.write_all(b"part").unwrap();
    upload.finish().unwrap();
    assert_eq!(objects.read("p/s/parts/a.parquet").unwrap(), b"part");
    store.judged(|_, _| Fate::Answered);
    drop(held);
    assert_eq!(objects.look("lock").unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_version_that_changed_under_a_writer_is_refused() {
    let store = Faulty::new();
    let objects = objects(&store, 60_000);
    let first = objects.replace_if("p/s/current", b"one", None).unwrap();
    store.judged(|what, _| if what == "put" { Fate::Rewritten } else { Fate::Answered });
    let refused = objects.replace_if("p/s/current", b"two", Some(&first)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(refused.to_string().contains("another process wrote s3://bucket/tables/p/s/current meanwhile"), "{refused}");
    assert_eq!(objects.read("p/s/current").unwrap(), b"one");
}

#[test]
fn the_second_writer_is_told_who_the_first_is() {
    let store = Faulty::new();
    let (one, other) = (objects(&store, 600), objects(&store, 600));
    let (held, ..) = take(&one).unwrap();
    for _ in 0..3 {
        let refused = take(&other).unwrap_err().to_string();
        let this = format!("s3://bucket/tables is in use by process {} on ", std::process::id());
        assert!(refused.contains(&this), "{refused}");
        std::thread::sleep(Duration::from_millis(500));
        // Its lease would have lapsed long ago if it did not renew it.
        one.replace("p/s/listing", b"").unwrap();
    }
    drop(held);
    take(&other).unwrap();
}

#[test]
fn a_lease_that_is_not_renewed_is_taken() {
    let store = Faulty::new();
    let (one, other) = (objects(&store, 400), objects(&store, 400));
    drop(take(&one).unwrap());
    let start = Instant::now();
    let key = one.bucket.key("lock").unwrap();
    let abandoned = serde_json::json!({
        "token": "gone", "beat": 3, "lapse_ms": 400, "holder": "process 7 on another machine", "process": null
    });
    let bucket = one.bucket.store.clone();
    wait(async move { bucket.put(&key, abandoned.to_string().into_bytes().into()).await }).unwrap();
    let refused = take(&other).unwrap_err().to_string();
    assert!(refused.contains("is in use by process 7 on another machine"), "it was renewed just now: {refused}");
    std::thread::sleep(Duration::from_millis(250));
    let (held, said, fenced) = take(&other).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(650), "it was looked at for as long as it holds");
    assert!(said.len() == 1 && said[0].contains("process 7 on another machine"), "{said:?}");
    assert_eq!(fenced, 1);
    drop(held);
    let (_held, said, fenced) = take(&one).unwrap();
    assert_eq!((said.len(), fenced), (0, 0), "it was given back");
}

#[test]
fn a_holder_that_is_gone_is_not_waited_for() {
    let store = Faulty::new();
    let one = objects(&store, 60_000);
    let (held, ..) = take(&one).unwrap();
    let text = String::from_utf8(one.read("lock").unwrap()).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&text).unwrap();
    // The same number was given to another process since.
    body["process"]["began"] = "1".into();
    body["token"] = "gone".into();
    drop(held);
    let (bucket, key) = (one.bucket.store.clone(), one.bucket.key("lock").unwrap());
    wait(async move { bucket.put(&key, body.to_string().into_bytes().into()).await }).unwrap();
    let start = Instant::now();
    let (_held, said, fenced) = take(&one).unwrap();
    assert!(said.is_empty() && fenced == 1 && start.elapsed() < Duration::from_secs(5), "{said:?}");
}

#[test]
fn a_writer_that_cannot_renew_stops_before_another_begins() {
    let store = Faulty::new();
    let (one, other) = (objects(&store, 800), objects(&store, 800));
    let (held, ..) = take(&one).unwrap();
    one.replace("p/s/listing", b"first").unwrap();
    of_another_machine(&other);
    let now = Instant::now();
    // It sees that the lease is another's as soon as it renews it.
    let refused = loop {
        match one.replace("p/s/listing", b"more") {
            Ok(()) => assert!(now.elapsed() < Duration::from_secs(10)),
            Err(error) => break error,
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(refused.to_string().contains("was taken over by process 7 on another machine"), "{refused}");
    drop(held);
    assert!(other.look("lock").is_ok(), "another's lease is not given back");

    // Out of reach: nothing is known of others, and the time is over.
    let store = Faulty::new();
    let one = objects(&store, 800);
    let (_held, ..) = take(&one).unwrap();
    store.judged(|_, key| if key.as_ref().ends_with("lock") { Fate::Refused } else { Fate::Answered });
    std::thread::sleep(Duration::from_millis(300));
    one.replace("p/s/listing", b"there is time left").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let refused = one.replace("p/s/listing", b"too late").unwrap_err();
    assert!(refused.to_string().contains("could not renew its lease of the store s3://bucket/tables"), "{refused}");
    // It is in reach again in time for nobody else to have taken it.
    store.judged(|_, _| Fate::Answered);
    std::thread::sleep(Duration::from_millis(400));
    one.replace("p/s/listing", b"again").unwrap();
}

#[test]
fn one_of_many_gets_the_lease() {
    let store = Faulty::new();
    store.judged(|_, _| Fate::Late(Duration::from_millis(2)));
    for _ in 0..20 {
        let start = std::sync::Barrier::new(8);
        let holders = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let objects = objects(&store, 60_000);
                        start.wait();
                        take(&objects).ok().map(|(held, ..)| held)
                    })
                })
                .collect();
            takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(holders.len(), 1);
    }
}

fn manifest(id: &str) -> Manifest {
    serde_json::from_value(serde_json::json!({
        "format": 1, "id": id, "stage": "s", "key": id, "created": 7, "run": "r", "seconds": 0.5, "metrics": null,
        "parts_of_key": {
            "operator": "table", "version": 1, "config": {}, "seed": null, "files": [], "inputs": {}, "listing": null
        },
        "parts": []
    }))
    .unwrap()
}

#[test]
fn a_stale_writer_publishes_nothing() {
    let store = Faulty::new();
    let of = |objects: &Objects| Store::over(Arc::new(objects.clone()), "p", std::env::temp_dir());
    let (paused, next) = (objects(&store, 400), objects(&store, 400));
    let ids = ["a", "b", "c", "d"].map(|letter| letter.repeat(32));
    let first = of(&paused);
    let held = first.lock(&|_| {}).unwrap();
    let stage = first.stage("s");
    stage.publish(&manifest(&ids[0])).unwrap();
    assert_eq!(stage.current().unwrap().unwrap().id, ids[0]);
    // It is as if it slept: its lease becomes another's, and it does not know yet.
    of_another_machine(&next);
    std::thread::sleep(Duration::from_millis(250));
    let second = of(&next);
    let _held = second.lock(&|_| {}).unwrap();
    // The next writer has published nothing yet; the pointer has another version all the same.
    assert_eq!(second.stage("s").current().unwrap().unwrap().id, ids[0]);
    *paused.lease.lock().unwrap() = None;
    let refused = stage.publish(&manifest(&ids[1])).unwrap_err().to_string();
    assert!(refused.contains("another process wrote s3://bucket/tables/p/s/current meanwhile"), "{refused}");
    second.stage("s").publish(&manifest(&ids[2])).unwrap();
    assert!(stage.point_to(&ids[3]).is_err());
    assert_eq!(second.stage("s").current().unwrap().unwrap().id, ids[2]);
    drop(held);
}

/// A stage that publishes over a bucket that fails now and then: readers see the last table or the new one, and when the bucket is well
/// again, so is the stage.
#[test]
fn readers_see_one_table_or_the_next() {
    let mut dice = 17_u64;
    for round in 0..200 {
        let store = Faulty::new();
        let objects = objects(&store, 60_000);
        let table = Store::over(Arc::new(objects.clone()), "p", std::env::temp_dir());
        let _held = table.lock(&|_| {}).unwrap();
        let stage = table.stage("s");
        let mut last = None;
        for attempt in 0..6 {
            let id = format!("{attempt:032}");
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, kind) = ((dice >> 33) as usize % 4, (dice >> 40) as usize % 4);
            let seen = AtomicUsize::new(0);
            store.judged(move |_, _| {
                let fates = [Fate::Refused, Fate::Lost, Fate::AskedAgain, Fate::Rewritten];
                if seen.fetch_add(1, Ordering::Relaxed) == at { fates[kind] } else { Fate::Answered }
            });
            let published = stage.publish(&manifest(&id));
            store.judged(|_, _| Fate::Answered);
            let seen = table.stage("s").current().unwrap().map(|manifest| manifest.id);
            assert!(seen == last || seen.as_ref() == Some(&id), "round {round}, {attempt}: {seen:?}");
            if published.is_ok() {
                assert_eq!(seen.as_ref(), Some(&id));
            }
            last = seen;
            if published.is_err() {
                // Another run begins.
                table.pointers.forget();
            }
        }
        stage.publish(&manifest(&"e".repeat(32))).unwrap();
    }
}
