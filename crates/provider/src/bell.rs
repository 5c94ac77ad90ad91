use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The task is polling what rings.
const INSIDE: u8 = 1;
/// Somebody rang, and nobody has answered.
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

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    /// How often it was answered, modulo 2³².
    turn: AtomicU32,
    task: AtomicWaker,
}

/// A turn of a poll, as [`Bell::turn`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u32);

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
        let inner =
            Arc::new(Inner { state: AtomicU8::new(RUNG), turn: AtomicU32::new(0), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }
}

impl Bell {
    /// Polls `work`, and again as long as something has rung that it did not [`answer`](Self::answer), at most `turns`
    /// times; then other tasks get their turn first.
    pub fn poll<T>(
        &self,
        context: &mut Context<'_>,
        turns: usize,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.inner.task.register(context.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..turns {
            self.inner.state.fetch_or(INSIDE, Ordering::AcqRel);
            let polled = work(&mut inner);
            // Whoever rings from here on wakes the task itself. What is not answered yet is kept for the next poll.
            let rung = self.inner.state.fetch_and(!INSIDE, Ordering::AcqRel) & RUNG != 0;
            if polled.is_ready() || !rung {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// For `work`, before it polls what may ring: that poll answers all that rang so far. Gives whether anything did; if
    /// not, what was polled before has nothing new to do. A new bell has rung.
    pub fn answer(&self) -> bool {
        // One task alone answers, so the count needs no atomic addition.
        let turn = self.inner.turn.load(Ordering::Relaxed);
        self.inner.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        self.inner.state.fetch_and(!RUNG, Ordering::AcqRel) & RUNG != 0
    }

    /// The present turn: what follows the last [`answer`](Self::answer).
    pub fn turn(&self) -> Turn {
        Turn(self.inner.turn.load(Ordering::Relaxed))
    }

    /// Whether this turn goes on and nothing has rung in it: what was polled in vain in it would be polled in vain again.
    pub fn is_still(&self, turn: Turn) -> bool {
        self.turn() == turn && self.inner.state.load(Ordering::Acquire) & RUNG == 0
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
            bell.answer();
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
            bell.answer();
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
            bell.answer();
            turns += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, turns), ((Poll::Pending, 1), 4));
    }

    #[test]
    fn what_rang_is_kept_until_it_is_answered() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        assert!(bell.answer(), "a new bell has rung");
        let mut kept = None;
        let polled = poll(&bell, &count, 8, |context| {
            kept = Some(context.waker().clone());
            context.waker().wake_by_ref();
            Poll::Ready(())
        });
        assert_eq!(polled, (Poll::Ready(()), 0));
        assert_eq!(poll(&bell, &count, 8, |_| Poll::Ready(())), (Poll::Ready(()), 0));
        assert_eq!(poll(&bell, &count, 8, |_| Poll::Ready(bell.answer())), (Poll::Ready(true), 0));
        assert_eq!(poll(&bell, &count, 8, |_| Poll::Ready(bell.answer())), (Poll::Ready(false), 0));
        kept.expect("a waker").wake();
        assert_eq!(poll(&bell, &count, 8, |_| Poll::Ready(bell.answer())), (Poll::Ready(true), 1));
    }

    #[test]
    fn a_turn_is_still_until_something_rings_or_it_is_over() {
        let bell = Bell::default();
        assert!(!bell.is_still(bell.turn()), "a new bell has rung");
        bell.answer();
        let turn = bell.turn();
        assert!(bell.is_still(turn));
        bell.waker.wake_by_ref();
        assert!(!bell.is_still(turn), "it rang");
        bell.answer();
        assert!(!bell.is_still(turn) && bell.is_still(bell.turn()), "another turn");
    }

    #[test]
    fn what_is_detached_wakes_nobody() {
        let (bell, count) = (Bell::default(), Arc::new(Count::default()));
        assert_eq!(poll(&bell, &count, 8, |_| Poll::Ready(())), (Poll::Ready(()), 0));
        let waker = bell.detached(|context| context.waker().clone());
        waker.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }
}
