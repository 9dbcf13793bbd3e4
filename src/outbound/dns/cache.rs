//! Answers for as long as they are good, and one query for all who ask the same at the same time.

use super::reply::{Question, Reply, ReplyError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// The most answers that are kept: of more, the oldest questions are asked again.
pub const ENTRIES_MAX: usize = 8192;

/// What was answered, or why nothing was.
pub type Answer = Result<Reply, ReplyError>;

/// Answers by question. Time is an argument, in ms since any point.
#[derive(Default)]
pub struct Cache {
    entries: Mutex<HashMap<Question, Arc<Entry>>>,
}

/// One query: under way until `done` is set.
#[derive(Default)]
struct Entry {
    done: OnceCell<Done>,
}

struct Done {
    answer: Answer,
    at_ms: u64,
    good_ms: u64,
}

impl Entry {
    /// Whether somebody who asks now may have it: it is under way, or good still.
    fn serves(&self, now_ms: u64, age_max_s: u32) -> bool {
        self.done.get().is_none_or(|done| {
            let good_ms = done.good_ms.min(u64::from(age_max_s) * 1000);
            now_ms.saturating_sub(done.at_ms) < good_ms
        })
    }
}

impl Cache {
    /// The answer that is known, under way, or fetched now. None is older than its TTL, or than `age_max_s`; the TTL in it is
    /// what is left of it. Failures are shared by those who wait, and not kept.
    pub async fn get<F: Future<Output = Answer>>(
        &self,
        question: &Question,
        age_max_s: u32,
        now_ms: impl Fn() -> u64,
        fetch: impl FnOnce() -> F,
    ) -> Answer {
        let entry = self.entry(question, age_max_s, now_ms());
        // Whoever is first fetches; if that task is dropped, the next one that waits does.
        let fetched = async {
            let answer = fetch().await;
            let good_ms = match &answer {
                Ok(Reply::Records(_, ttl_s) | Reply::Nothing(ttl_s) | Reply::Alias(_, ttl_s)) => {
                    u64::from(*ttl_s) * 1000
                }
                Err(_) => 0,
            };
            Done { answer, at_ms: now_ms(), good_ms }
        };
        let done = entry.done.get_or_init(|| fetched).await;
        let age_s = u32::try_from(now_ms().saturating_sub(done.at_ms) / 1000).unwrap_or(u32::MAX);
        Ok(match done.answer.clone()? {
            Reply::Records(records, ttl_s) => Reply::Records(records, ttl_s.saturating_sub(age_s)),
            Reply::Nothing(ttl_s) => Reply::Nothing(ttl_s.saturating_sub(age_s)),
            Reply::Alias(name, ttl_s) => Reply::Alias(name, ttl_s.saturating_sub(age_s)),
        })
    }

    fn entry(&self, question: &Question, age_max_s: u32, now_ms: u64) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entries.get(question).filter(|e| e.serves(now_ms, age_max_s)) {
            return known.clone();
        }
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, e| e.serves(now_ms, u32::MAX));
        }
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, e| e.done.get().is_none());
        }
        let fresh = Arc::new(Entry::default());
        entries.insert(question.clone(), fresh.clone());
        fresh
    }

    /// How many answers are kept or under way.
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::Kind;
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    fn question(name: &str) -> Question {
        Question { name: name.to_owned(), kind: Kind::A }
    }

    struct Bench {
        cache: Cache,
        now_ms: AtomicU64,
        fetched: AtomicU32,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { cache: Cache::default(), now_ms: AtomicU64::new(0), fetched: AtomicU32::new(0) }
        }

        async fn get(&self, name: &str, age_max_s: u32, answer: Answer) -> Answer {
            let fetch = || async {
                tokio::task::yield_now().await;
                self.fetched.fetch_add(1, Ordering::SeqCst);
                answer
            };
            let now = || self.now_ms.load(Ordering::SeqCst);
            self.cache.get(&question(name), age_max_s, now, fetch).await
        }

        fn at(&self, ms: u64) -> u32 {
            self.now_ms.store(ms, Ordering::SeqCst);
            self.fetched.swap(0, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn an_answer_is_good_for_its_ttl_and_no_longer() {
        let b = Bench::new();
        for (ms, left, fetched) in [(0, 3, 1), (1000, 2, 0), (2999, 1, 0), (3000, 3, 1), (3001, 3, 0)] {
            b.at(ms);
            assert_eq!(b.get("a", 60, Ok(Reply::Nothing(3))).await, Ok(Reply::Nothing(left)), "at {ms}");
            assert_eq!(b.at(ms), fetched, "at {ms}");
        }
        // A year, for one who takes nothing older than a minute.
        b.get("y", 60, Ok(Reply::Nothing(31_536_000))).await.unwrap();
        b.at(63_001);
        b.get("y", 60, Ok(Reply::Nothing(1))).await.unwrap();
        assert_eq!(b.at(0), 1);
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_one_query_also_with_ttl_0_and_when_it_fails() {
        let b = Bench::new();
        for answer in [Ok(Reply::Nothing(0)), Err(ReplyError::Referral)] {
            let all = (0..100).map(|_| b.get("a", 60, answer.clone()));
            let all = futures_util::future::join_all(all).await;
            assert!(all.iter().all(|one| *one == answer));
            assert_eq!(b.at(0), 1);
            let _ = b.get("a", 60, answer).await;
            assert_eq!(b.at(0), 1, "nothing was kept");
        }
    }

    #[tokio::test]
    async fn one_who_leaves_does_not_take_the_answer_along() {
        let b = Bench::new();
        {
            let a = question("a");
            let never = b.cache.get(&a, 60, || 0, std::future::pending::<Answer>);
            let waits = tokio::time::timeout(std::time::Duration::from_millis(5), never);
            assert!(waits.await.is_err());
        }
        assert_eq!(b.get("a", 60, Ok(Reply::Nothing(5))).await, Ok(Reply::Nothing(5)));
    }

    #[tokio::test]
    async fn what_is_kept_has_a_limit() {
        let b = Bench::new();
        for n in 0..3 * ENTRIES_MAX {
            b.get(&format!("n{n}"), 60, Ok(Reply::Nothing(60))).await.unwrap();
            assert!(b.cache.len() <= ENTRIES_MAX);
        }
    }
}
