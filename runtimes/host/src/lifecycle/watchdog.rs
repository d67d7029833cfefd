//! Keep-alive messages for the supervisor while all workers respond: if a worker is stuck, the supervisor restarts the
//! process.

use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use smol::Timer;

use crate::lifecycle::status::ProcessStatus;
use crate::liveness::Liveness;
use crate::workers::Workers;

/// Reports to the supervisor, twice per timeout, that all workers respond.
#[derive(Debug)]
pub struct Watchdog {
    status: ProcessStatus,
    every: Duration,
}

impl Watchdog {
    /// Returns a watchdog if the supervisor of this process expects notifications.
    pub fn new(status: &ProcessStatus) -> Option<Watchdog> {
        let timeout = status.supervisor().watchdog_timeout()?;
        Some(Watchdog { status: status.clone(), every: timeout / 2 })
    }

    /// Reports until a successor serves. `pause` is the runtime's timer.
    pub async fn serve<P: Future<Output = ()>>(
        self,
        workers: impl Workers + 'static,
        pause: impl Fn(Duration) -> P,
    ) {
        let liveness = Liveness::new(Rc::new(workers));
        while !self.status.is_handed_over() {
            // A worker that has not answered the probe of the last round is stuck. The notification is then left out, and
            // the supervisor's timeout ends the process.
            let unresponsive = liveness.unresponsive_since().await.map(|since| since.elapsed());
            if unresponsive.is_none_or(|time| time < self.every) {
                self.status.supervisor().ping_watchdog();
            }
            pause(self.every).await;
        }
    }

    /// Does the same on a separate thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(self, workers: impl Workers + Send + 'static) -> io::Result<()> {
        let name = "watchdog".to_owned();
        let pause = |every| async move {
            Timer::after(every).await;
        };
        thread::Builder::new().name(name).spawn(move || smol::block_on(self.serve(workers, pause)))?;
        Ok(())
    }
}
