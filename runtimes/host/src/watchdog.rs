//! Signs of life for the supervisor, as long as there is life: a worker that is stuck for good has the process started
//! anew.

use std::io;
use std::thread;
use std::time::Duration;

use smol::Timer;

use crate::phase::Phase;
use crate::workers::{Desk, Workers};

/// What tells the supervisor at half of its patience that all workers turn.
#[derive(Debug)]
pub struct Watchdog {
    phase: Phase,
    every: Duration,
}

impl Watchdog {
    pub(crate) fn new(phase: Phase, patience: Duration) -> Watchdog {
        Watchdog { phase, every: patience / 2 }
    }

    /// Tells it until another process has taken over. `pause` is how the runtime waits.
    pub async fn serve<P: Future<Output = ()>>(
        self,
        workers: impl Workers + 'static,
        pause: impl Fn(Duration) -> P,
    ) {
        let desk = Desk::new(workers);
        while !self.phase.is_handed_over() {
            // Of a worker that was asked the last time and owes the answer still, the next silence is the supervisor's
            // to judge: the sign of life that is not given now is the one that it waits for.
            let silence = desk.silent_since().await.map(|since| since.elapsed());
            if silence.is_none_or(|silence| silence < self.every) {
                self.phase.supervisor().alive();
            }
            pause(self.every).await;
        }
    }

    /// The same on a thread of its own.
    ///
    /// # Errors
    /// No thread was to be had.
    pub fn spawn(self, workers: impl Workers + Send + 'static) -> io::Result<()> {
        let name = "watchdog".to_owned();
        let pause = |every| async move {
            Timer::after(every).await;
        };
        thread::Builder::new().name(name).spawn(move || smol::block_on(self.serve(workers, pause)))?;
        Ok(())
    }
}
