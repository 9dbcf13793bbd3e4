//! Questions that wait together travel together: at most two batches of a pool are under way; the next one collects meanwhile.

use crate::store::StoreError;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The most questions in one batch.
pub const BATCH_MAX: usize = 256;

/// Batches under way at once: while the store works on one, the next is on its way.
const UNDER_WAY_MAX: usize = 2;

/// The most questions that may wait; one more is answered as if the store were away.
const WAITING_MAX: usize = 16_384;

/// Answers a batch, in the order of its questions.
#[async_trait]
pub trait Run: Send + Sync + 'static {
    /// A question.
    type Ask: Send + 'static;
    /// Its answer.
    type Answer: Send + 'static;
    /// Asks all of them at once.
    async fn run(&self, batch: Vec<Self::Ask>) -> Result<Vec<Self::Answer>, StoreError>;
}

/// Collects questions while earlier ones are under way. Clones collect together.
pub struct Batcher<R: Run> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: Run> {
    run: R,
    queue: Mutex<Queue<R>>,
}

impl<R: Run> Clone for Batcher<R> {
    fn clone(&self) -> Batcher<R> {
        Batcher { inner: self.inner.clone() }
    }
}

type Waiter<A> = oneshot::Sender<Result<A, StoreError>>;

struct Queue<R: Run> {
    waiting: VecDeque<(R::Ask, Waiter<R::Answer>)>,
    under_way: usize,
}

impl<R: Run> Batcher<R> {
    /// A batcher that asks through `run`.
    pub fn new(run: R) -> Batcher<R> {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), under_way: 0 });
        Batcher { inner: Arc::new(Inner { run, queue }) }
    }

    /// Asks one question; `together` says whether it may wait for company. When the asker goes away the question is still asked:
    /// others may be in its batch.
    pub async fn submit(&self, ask: R::Ask, together: bool) -> Result<R::Answer, StoreError> {
        if !together {
            return first(self.inner.run.run(vec![ask]).await);
        }
        let (waiter, answer) = oneshot::channel();
        let start = {
            let mut queue = self.inner.lock();
            if queue.waiting.len() >= WAITING_MAX {
                return Err(StoreError::Away {
                    op: "batch",
                    cause: format!("{WAITING_MAX} lookups wait already"),
                });
            }
            queue.waiting.push_back((ask, waiter));
            let start = queue.under_way < UNDER_WAY_MAX;
            queue.under_way += usize::from(start);
            start
        };
        if start {
            tokio::spawn(drive(self.inner.clone()));
        }
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

impl<R: Run> Inner<R> {
    fn lock(&self) -> MutexGuard<'_, Queue<R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends batches until nothing waits.
async fn drive<R: Run>(inner: Arc<Inner<R>>) {
    loop {
        let (asks, waiters): (Vec<_>, Vec<_>) = {
            let mut queue = inner.lock();
            // Whoever asked may have given up: a lookup past its deadline was answered without the store.
            queue.waiting.retain(|(_, waiter)| !waiter.is_closed());
            if queue.waiting.is_empty() {
                queue.under_way -= 1;
                return;
            }
            let count = queue.waiting.len().min(BATCH_MAX);
            queue.waiting.drain(..count).unzip()
        };
        match inner.run.run(asks).await {
            Ok(answers) => {
                // A store that answers too few leaves the rest to fall to `lost()`.
                for (waiter, answer) in waiters.into_iter().zip(answers) {
                    let _ = waiter.send(Ok(answer));
                }
            }
            Err(error) => {
                for waiter in waiters {
                    let _ = waiter.send(Err(error.clone()));
                }
            }
        }
    }
}

fn first<A>(answers: Result<Vec<A>, StoreError>) -> Result<A, StoreError> {
    answers?.into_iter().next().ok_or_else(lost)
}

fn lost() -> StoreError {
    StoreError::Away { op: "batch", cause: "the batch ended without an answer".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Slow(Mutex<Vec<usize>>);

    #[async_trait]
    impl Run for Arc<Slow> {
        type Ask = u32;
        type Answer = u32;
        async fn run(&self, batch: Vec<u32>) -> Result<Vec<u32>, StoreError> {
            self.0.lock().unwrap().push(batch.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
            if batch.contains(&13) {
                return Err(StoreError::Away { op: "test", cause: String::new() });
            }
            Ok(batch.iter().map(|n| n * 2).collect())
        }
    }

    fn slow() -> (Arc<Slow>, Arc<Batcher<Arc<Slow>>>) {
        let slow = Arc::new(Slow(Mutex::new(Vec::new())));
        (slow.clone(), Arc::new(Batcher::new(slow)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_together_travels_together_and_each_gets_its_own_answer() {
        let (slow, batcher) = slow();
        let asks = (100..700).map(|n| {
            let batcher = batcher.clone();
            tokio::spawn(async move { (n, batcher.submit(n, true).await.unwrap()) })
        });
        for ask in asks.collect::<Vec<_>>() {
            let (n, answer) = ask.await.unwrap();
            assert_eq!(answer, n * 2);
        }
        let sizes = slow.0.lock().unwrap().clone();
        assert_eq!(sizes.iter().sum::<usize>(), 600);
        assert!(sizes.len() < 8 && sizes.iter().all(|n| *n <= BATCH_MAX), "{sizes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_batch_fails_each_of_its_questions_and_no_other() {
        let (_, batcher) = slow();
        assert!(batcher.submit(13, true).await.is_err());
        assert_eq!(batcher.submit(4, true).await.unwrap(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_whose_asker_went_away_is_not_asked_again() {
        let (slow, batcher) = slow();
        for n in 0..2 {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(n, true).await });
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        let gone = tokio::time::timeout(Duration::from_millis(1), batcher.submit(7, true)).await;
        assert!(gone.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(slow.0.lock().unwrap().iter().sum::<usize>(), 2);
        assert_eq!(batcher.submit(5, true).await.unwrap(), 10);
    }
}
