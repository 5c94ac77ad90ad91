use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is asked far more often than it fires.
///
/// A [`Sleep`] that is polled visits the timer's wheel entry each time, and every stream has several of them. An alarm that
/// knows whom its timer will wake answers from what it holds itself.
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    due: Instant,
    /// Whom the timer will wake.
    waker: Option<Waker>,
}

impl Alarm {
    /// An alarm that fires then.
    pub fn at(due: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(due)), due, waker: None }
    }

    /// When it fires.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Moves it.
    pub fn set(&mut self, due: Instant) {
        self.sleep.as_mut().reset(due);
        self.due = due;
        self.waker = None;
    }

    /// Whether it has fired; if not, it will wake the task.
    ///
    /// `now` is a time at which the task was being polled, in this poll or this turn of it: a timer that fires later wakes
    /// the task, which then asks again with a later time.
    pub fn poll(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        if now < self.due && self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(context);
        self.waker = polled.is_pending().then(|| context.waker().clone());
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn fires(alarm: &mut Alarm) -> Instant {
        poll_fn(|context| alarm.poll(context, Instant::now())).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn it_fires_when_it_is_due_however_often_it_was_asked_before() {
        let begin = Instant::now();
        let mut alarm = Alarm::at(begin + SECOND);
        for _ in 0..3 {
            let asked = poll_fn(|context| Poll::Ready(alarm.poll(context, Instant::now()))).await;
            assert!(asked.is_pending());
        }
        assert_eq!(fires(&mut alarm).await, begin + SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn moved_it_fires_then_and_wakes_whoever_asks() {
        let begin = Instant::now();
        let mut alarm = Alarm::at(begin + SECOND);
        assert!(poll_fn(|context| Poll::Ready(alarm.poll(context, begin))).await.is_pending());
        alarm.set(begin + 3 * SECOND);
        assert_eq!(alarm.due(), begin + 3 * SECOND);
        // Another task has another waker, which the timer must learn.
        let fired = tokio::spawn(async move { fires(&mut alarm).await }).await;
        assert_eq!(fired.ok(), Some(begin + 3 * SECOND));
    }
}
