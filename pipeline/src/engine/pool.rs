//! Worker threads for CPU work, so that tokio's threads never do any.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a bounded queue before them.
pub struct Pool {
    jobs: Sender<Job>,
    /// One permit a job that is queued or at work: whoever holds one can send without waiting.
    places: Arc<Semaphore>,
}

/// A job did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// It panicked.
    #[error("a worker panicked: {0}")]
    Panicked(String),
    /// The pool is shutting down.
    #[error("the workers are gone")]
    Gone,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives none.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let places = threads * 2;
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = bounded(places);
        for number in 0..threads {
            let queue = queue.clone();
            let work = move || {
                for job in queue {
                    job();
                }
            };
            std::thread::Builder::new().name(format!("tessera-{number}")).spawn(work)?;
        }
        Ok(Self { jobs, places: Arc::new(Semaphore::new(places)) })
    }

    /// Runs a job on a worker. Dropping the future before the job began leaves it out.
    ///
    /// The permit travels with the job: a future that is dropped leaves its job in the queue, and the job's place must not be given
    /// away before a worker has taken it.
    ///
    /// # Errors
    /// The job panicked; the message is the panic's.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, PoolError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| PoolError::Gone)?;
        let (done, result) = oneshot::channel();
        let job = move || {
            let _place = place;
            if done.is_closed() {
                return;
            }
            // The receiver may have gone meanwhile: then nobody wants the result.
            let _ = done.send(catch_unwind(AssertUnwindSafe(job)));
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| PoolError::Gone)?;
        match result.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(PoolError::Panicked(message(panic.as_ref()))),
            Err(_) => Err(PoolError::Gone),
        }
    }
}

/// What a panic said.
pub fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_worker_lives_on() {
        let pool = Pool::new(1).unwrap();
        let error = pool.run(|| panic!("no {}", "luck")).await.unwrap_err();
        assert_eq!(error.to_string(), "a worker panicked: no luck");
        assert_eq!(pool.run(|| 41 + 1).await.unwrap(), 42);
    }

    #[tokio::test]
    async fn jobs_that_nobody_waits_for_keep_their_places_until_they_are_through() {
        let pool = Pool::new(1).unwrap();
        for round in 0..50 {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let mut first = Box::pin(pool.run(move || held.recv().unwrap()));
            assert!(futures::poll!(first.as_mut()).is_pending());
            // More futures than the queue has places, each dropped after its job was sent or began to wait.
            for _ in 0..5 {
                let mut dropped = Box::pin(pool.run(|| ()));
                assert!(futures::poll!(dropped.as_mut()).is_pending());
            }
            let mut last = Box::pin(pool.run(move || round));
            assert!(futures::poll!(last.as_mut()).is_pending(), "no place is free");
            release.send(()).unwrap();
            first.await.unwrap();
            assert_eq!(last.await.unwrap(), round);
        }
    }

    #[tokio::test]
    async fn more_jobs_than_places_all_run() {
        let pool = Pool::new(2).unwrap();
        let jobs = (0..100).map(|i| pool.run(move || i * i));
        let done = futures::future::try_join_all(jobs).await.unwrap();
        assert_eq!(done, (0..100).map(|i| i * i).collect::<Vec<_>>());
    }
}
