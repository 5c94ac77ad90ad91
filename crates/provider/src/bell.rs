use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The task is polling what rings.
const INSIDE: u8 = 1;
/// Somebody rang since the poll began.
const RUNG: u8 = 2;

/// Wakes a task for a group of futures that it polls together, but not while it is polling them.
///
/// The two halves of an HTTP connection wake each other all the time. Within one task every such wake-up would be a
/// round through the runtime's queue, behind all other tasks, and perhaps on another processor; with a bell it is
/// another turn of the same poll.
#[derive(Debug)]
pub struct Bell {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Inner {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(RUNG, Ordering::AcqRel) & INSIDE == 0 {
            self.task.wake();
        }
    }
}

impl Default for Bell {
    fn default() -> Self {
        let inner = Arc::<Inner>::default();
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }
}

impl Bell {
    /// Polls `work`, and again as often as something rings meanwhile, at most `turns` times; then other tasks get their
    /// turn first.
    pub fn poll<T>(
        &self,
        context: &mut Context<'_>,
        turns: usize,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.inner.task.register(context.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..turns {
            self.inner.state.store(INSIDE, Ordering::Release);
            let polled = work(&mut inner);
            // Whoever rings from here on wakes the task itself.
            let rung = self.inner.state.swap(0, Ordering::AcqRel) & RUNG != 0;
            if polled.is_ready() || !rung {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Inside a poll: what rang so far is answered by what `work` does next.
    pub fn hush(&self) {
        self.inner.state.swap(INSIDE, Ordering::AcqRel);
    }

    /// Polls once outside any task; what rings later rings in vain until the next [`poll`](Self::poll).
    pub fn detached<T>(&self, work: impl FnOnce(&mut Context<'_>) -> T) -> T {
        drop(self.inner.task.take());
        work(&mut Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once with a bell; gives the outcome and how often the task itself was woken so far.
    fn poll<T>(
        bell: &Bell,
        count: &Arc<Count>,
        turns: usize,
        work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> (Poll<T>, usize) {
        let waker = Waker::from(Arc::clone(count));
        let polled = bell.poll(&mut Context::from_waker(&waker), turns, work);
        (polled, count.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_rings_inside_a_poll_is_another_turn_and_no_wake_up() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let mut turns = 0;
        let polled = poll(&bell, &count, 8, |context| {
            turns += 1;
            if turns == 3 {
                return Poll::Ready(turns);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(polled, (Poll::Ready(3), 0));
    }

    #[test]
    fn what_rings_outside_a_poll_wakes_the_task() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let mut kept = None;
        let polled = poll(&bell, &count, 8, |context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        assert_eq!(polled, (Poll::Pending, 0));
        kept.expect("a waker").wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_future_that_rings_for_ever_lets_others_have_their_turn() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let mut turns = 0;
        let polled = poll(&bell, &count, 4, |context| {
            turns += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, turns), ((Poll::Pending, 1), 4));
    }

    #[test]
    fn what_was_hushed_is_no_turn_and_what_is_detached_wakes_nobody() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        let mut turns = 0;
        let polled = poll(&bell, &count, 8, |context| {
            turns += 1;
            context.waker().wake_by_ref();
            bell.hush();
            Poll::<()>::Pending
        });
        assert_eq!((polled, turns), ((Poll::Pending, 0), 1));
        let waker = bell.detached(|context| context.waker().clone());
        waker.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }
}
