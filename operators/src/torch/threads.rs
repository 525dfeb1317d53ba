//! libtorch's threads, and how they wait for each other.
//!
//! At the end of each parallel loop libgomp's threads spin for the others, up to 300,000 times before they sleep. That is a little
//! faster on cores of their own, and ruinous beside other work: a thread that is not on a core keeps others spinning on theirs, in
//! its way. Its documentation has the remedy: with more threads than cores it spins a thousand times (`GOMP_SPINCOUNT`,
//! <https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html>). The variable itself is read before `main`; so one thread more
//! is made to exist, which sleeps. On two cores with some ten jobs waiting for them, a short `train` took 5.9 s, and so
//! 0.7 s; an epoch of `small` on cores of its own takes 3 to 4 % longer.

use std::sync::mpsc;

use tch::{Device, Kind, TchError, Tensor};

/// Values that libtorch shares out among threads: twice its grain.
const SHARED_OUT: i64 = 1 << 17;

/// While it lives, libtorch's threads that have to wait soon sleep.
pub struct Threads {
    _parked: Option<mpsc::Sender<()>>,
}

impl Threads {
    /// Lets libtorch use so many threads for what the calling thread asks of it.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn new(count: usize) -> Result<Self, TchError> {
        let parked = if count > 1 { Some(park()?) } else { None };
        // Behind the other thread's: what is set here also holds for threads that libtorch meets later.
        tch::set_num_threads(count.max(1) as i32);
        Ok(Self { _parked: parked })
    }
}

/// Starts a team of two threads of libgomp, which ends when the sender is dropped.
fn park() -> Result<mpsc::Sender<()>, TchError> {
    let (started, start) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let team = move || {
        tch::set_num_threads(2);
        let shared_out = Tensor::f_zeros([SHARED_OUT], (Kind::Float, Device::Cpu)).and_then(|zeros| zeros.f_exp());
        let _ = started.send(shared_out.map(drop));
        let _ = stopped.recv();
    };
    // Without the thread all is as libgomp has it.
    let spawned = std::thread::Builder::new().name("tessera-parked".to_owned()).spawn(team);
    if spawned.is_ok() {
        start.recv().unwrap_or(Ok(()))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_has_the_threads_that_it_asked_for() {
        let asked = std::thread::spawn(|| [1, 3, 2].map(|count| (Threads::new(count).unwrap(), tch::get_num_threads()).1));
        assert_eq!(asked.join().unwrap(), [1, 3, 2]);
    }
}
