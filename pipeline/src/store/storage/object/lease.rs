//! The right to write to a store of objects: an object `lock` that its holder renews.
//!
//! The lease is made where there is none (a conditional put), and written anew every few seconds by its holder. Whoever finds one that
//! was not written for [`LAPSE`], by its own clock, takes it; at once, if its holder was a process of this machine that is gone. The
//! holder counts from before it asked for its last renewal, by a clock that runs on while the machine sleeps, and writes nothing once
//! less than a quarter of that time is left: so that it stops before another begins. What it had under way then is refused by the
//! [fence](super::Locking::fence): the taker gives every pointer another version before it reads any.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, PutResult, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::super::disk::lock::{Process, holder};
use super::super::{InUse, Locking};
use super::bucket::{Bucket, begin, wait};
use crate::store::{LOCK, attempt};

/// How long a lease holds that is not renewed, unless a test says otherwise.
pub(super) const LAPSE: Duration = Duration::from_secs(60);
/// How often it is asked for again where nobody answers.
const TRIES: u32 = 10;
/// How often it is renewed in that time.
const RENEWALS: u32 = 6;

/// What the object says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Body {
    /// What tells this lease from all others.
    token: String,
    /// Counts renewals, so that each is another version.
    beat: u64,
    /// How long it holds without one, in milliseconds.
    lapse_ms: u64,
    /// Who has it, for people.
    holder: String,
    /// The same, for processes of the same machine.
    process: Option<Process>,
}

/// A lease that this process has, or had.
#[derive(Debug)]
pub(super) struct Lease {
    bucket: Bucket,
    state: Mutex<State>,
    lapse: Duration,
}

#[derive(Debug)]
struct State {
    body: Body,
    version: UpdateVersion,
    /// When the last renewal that came through was asked for.
    renewed: Duration,
    /// Who has it now, if that is known to be another.
    lost: Option<String>,
}

/// Ends a lease when it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    lease: Arc<Lease>,
    renewing: tokio::task::JoinHandle<()>,
    /// Whether what others could still write is fenced off.
    fenced: bool,
}

/// Time since the machine started, its sleep included.
fn clock() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    // SAFETY: the pointer is to a timespec that lives until the call returns.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What was found in place of a lease of one's own.
struct Found {
    body: Option<Body>,
    version: UpdateVersion,
    written: SystemTime,
}

impl Found {
    fn holder(&self) -> &str {
        self.body.as_ref().map_or("another process", |body| &body.holder)
    }

    fn lapse(&self) -> Duration {
        self.body.as_ref().map_or(LAPSE, |body| Duration::from_millis(body.lapse_ms))
    }

    /// Whether its holder was a process of this machine that is gone.
    fn is_gone(&self) -> bool {
        self.body.as_ref().and_then(|body| body.process.as_ref()).is_some_and(Process::is_gone)
    }
}

impl Lease {
    /// Takes the lease of a store.
    ///
    /// # Errors
    /// Another process has it, or the store cannot be reached.
    pub fn take(bucket: &Bucket, lapse: Duration, with: &Locking<'_>, held: impl FnOnce(&Arc<Self>)) -> Result<Guard> {
        let body = Body {
            token: attempt() + &attempt(),
            beat: 0,
            lapse_ms: lapse.as_millis() as u64,
            holder: holder(),
            process: Process::this(),
        };
        // What was there, and since when this process has looked at it.
        let mut seen: Option<(Found, Duration)> = None;
        let mut tries = 0;
        let (version, asked, was_taken) = loop {
            let asked = clock();
            let gone =
                seen.as_ref().filter(|(found, since)| found.is_gone() || clock().saturating_sub(*since) >= found.lapse());
            let mode = gone.map_or(PutMode::Create, |(found, _)| PutMode::Update(found.version.clone()));
            let takes = gone.is_some();
            match put(bucket, &body, mode) {
                Ok(put) => break (put.into(), asked, takes),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                // What came of it, the object says: asked until the store is out of reach.
                Err(Error::Generic { .. }) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(lapse / RENEWALS / 10);
                }
                Err(error) => return Err(bucket.refused("write", LOCK, error).into()),
            }
            let Some(found) = look(bucket)? else {
                seen = None;
                continue;
            };
            if found.body.as_ref().is_some_and(|there| there.token == body.token) {
                // The answer to the first put was lost on its way, and the put was not.
                break (found.version, asked, takes);
            }
            let same = seen.as_ref().is_some_and(|(before, _)| before.version == found.version);
            let changed = seen.is_some() && !same;
            let age = SystemTime::now().duration_since(found.written).ok();
            let is_renewed = age.is_some_and(|age| age < found.lapse() / 2);
            let is_gone = found.is_gone();
            if !is_gone && (changed || seen.is_none() && is_renewed) {
                let (place, holder) = (bucket.place("").into(), found.holder().to_owned());
                let more = format!(" (if it was killed, its lease lapses in {:.0} s)", found.lapse().as_secs_f64());
                return Err(InUse { place, holder, more }.into());
            }
            if seen.is_none() && !is_gone {
                let (place, holder) = (bucket.place(""), found.holder());
                let lapse = found.lapse().as_secs_f64();
                (with.say)(&format!(
                    "the store {place} was last written to by {holder}, which did not give its lease back: waiting {lapse:.0} s to \
                     see that it renews it no more"
                ));
            }
            if !same {
                seen = Some((found, clock()));
            } else if !is_gone {
                std::thread::sleep((lapse / RENEWALS / 4).min(Duration::from_secs(1)));
            }
        };
        let state = State { body, version, renewed: asked, lost: None };
        let lease = Arc::new(Self { bucket: bucket.clone(), state: Mutex::new(state), lapse });
        held(&lease);
        let renewing = begin(lease.clone().renew_until_dropped());
        let mut guard = Guard { lease, renewing, fenced: !was_taken };
        if was_taken {
            (with.fence)().context("cannot keep the store from its last holder")?;
            guard.fenced = true;
        }
        Ok(guard)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process may still write.
    ///
    /// # Errors
    /// `ResourceBusy`: it did not renew the lease in time.
    pub fn check(&self) -> io::Result<()> {
        let state = self.state();
        let (place, refused) =
            (self.bucket.place(""), |said: String| Err(io::Error::new(io::ErrorKind::ResourceBusy, said)));
        match &state.lost {
            Some(other) => refused(format!(
                "the store {place} was taken over by {other}, because this process did not renew its lease for {} s; run again",
                self.lapse.as_secs_f64()
            )),
            None if clock().saturating_sub(state.renewed) > self.lapse * 3 / 4 => refused(format!(
                "this process could not renew its lease of the store {place} for {:.0} s (it was paused, or the store was out of \
                 reach), and another one may have it by now; run again",
                (self.lapse * 3 / 4).as_secs_f64()
            )),
            None => Ok(()),
        }
    }

    async fn renew_until_dropped(self: Arc<Self>) {
        let pause = self.lapse / RENEWALS;
        loop {
            tokio::time::sleep(pause).await;
            // One that does not come through in time is asked for again; what came of it, the next one sees.
            let _ = tokio::time::timeout(pause * 2, self.renew()).await;
            if self.state().lost.is_some() {
                return;
            }
        }
    }

    async fn renew(&self) {
        let (mut body, version) = {
            let state = self.state();
            (state.body.clone(), state.version.clone())
        };
        body.beat += 1;
        let asked = clock();
        let Ok(key) = self.bucket.key(LOCK) else { return };
        let put = self.bucket.store.put_opts(&key, encode(&body).into(), PutOptions::from(PutMode::Update(version))).await;
        match put {
            Ok(put) => {
                let mut state = self.state();
                (state.body, state.version, state.renewed) = (body, put.into(), asked);
            }
            Err(Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. }) => {
                // Another one's, or one's own of which the answer was lost.
                let Ok(found) = fetch(&self.bucket).await else { return };
                let mut state = self.state();
                match found.as_ref().and_then(|found| found.body.as_ref()) {
                    Some(there) if there.token == body.token => {
                        state.body.beat = there.beat;
                        state.version = found.expect("it has a body").version;
                    }
                    _ => state.lost = Some(found.as_ref().map_or("another process", Found::holder).to_owned()),
                }
            }
            // Out of reach for now.
            Err(_) => {}
        }
    }
}

fn encode(body: &Body) -> Vec<u8> {
    serde_json::to_vec_pretty(body).expect("texts and numbers are JSON")
}

fn put(bucket: &Bucket, body: &Body, mode: PutMode) -> Result<PutResult, Error> {
    let (bucket, bytes) = (bucket.clone(), encode(body));
    wait(async move {
        let key = bucket.key(LOCK).map_err(|error| Error::Generic { store: "name", source: error.into() })?;
        bucket.store.put_opts(&key, bytes.into(), PutOptions::from(mode)).await
    })
}

fn look(bucket: &Bucket) -> io::Result<Option<Found>> {
    let bucket = bucket.clone();
    wait(async move { fetch(&bucket).await })
}

/// Who has a store's lease, unless that was not renewed in time.
pub(super) fn holder_of(bucket: &Bucket) -> io::Result<Option<String>> {
    let holds = |found: &Found| {
        let age = SystemTime::now().duration_since(found.written).unwrap_or_default();
        !found.is_gone() && age < found.lapse()
    };
    Ok(look(bucket)?.filter(holds).map(|found| found.holder().to_owned()))
}

/// The lease that is there, if there is one.
async fn fetch(bucket: &Bucket) -> io::Result<Option<Found>> {
    let got = match bucket.store.get(&bucket.key(LOCK)?).await {
        Ok(got) => got,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(bucket.refused("read", LOCK, error)),
    };
    let meta = got.meta.clone();
    let bytes = got.bytes().await.map_err(|error| bucket.refused("read", LOCK, error))?;
    Ok(Some(Found {
        body: serde_json::from_slice(&bytes).ok(),
        version: UpdateVersion { e_tag: meta.e_tag, version: meta.version },
        written: meta.last_modified.into(),
    }))
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.renewing.abort();
        // Where others are not fenced off, the next holder has to do it: for that one it looks like a lease that was not given back.
        if !self.fenced || self.lease.check().is_err() {
            return;
        }
        let bucket = self.lease.bucket.clone();
        let token = self.lease.state().body.token.clone();
        wait(async move {
            let found = fetch(&bucket).await.ok().flatten();
            if found.and_then(|found| found.body).is_some_and(|body| body.token == token)
                && let Ok(key) = bucket.key(LOCK)
            {
                let _ = bucket.store.delete(&key).await;
            }
        });
    }
}
