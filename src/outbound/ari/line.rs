//! Requests over the connection that a node has made itself, the same that its events come over. The node carries them out one after
//! the other.

use super::client::NoAnswer;
use crate::wire::ari::request::Request;
use crate::wire::ari::rest::{self, RestAnswer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

/// Requests that are under way at once, or wait to be sent; more wait their turn.
const UNDER_WAY_MAX: usize = 64;

/// A node's connection, as those see it who ask: there, or not.
pub struct Line {
    state: Mutex<State>,
    seats: Semaphore,
}

#[derive(Default)]
struct State {
    numbered: u64,
    /// Of the connection that there is.
    open: Option<(u64, Sender<Asked>)>,
    waiting: BTreeMap<u64, oneshot::Sender<RestAnswer>>,
}

/// A request to be sent.
#[derive(Debug)]
pub struct Asked {
    number: u64,
    /// Its text.
    pub text: String,
}

/// The line, as the connection sees it. When it is dropped, whoever waits for an answer is told at once.
pub struct Open {
    line: Arc<Line>,
    number: u64,
    /// What is to be sent.
    pub asked: Receiver<Asked>,
}

/// Somebody waits for an answer, until this is dropped.
struct Waits<'a> {
    line: &'a Line,
    number: u64,
}

impl Default for Line {
    fn default() -> Self {
        Line { state: Mutex::default(), seats: Semaphore::new(UNDER_WAY_MAX) }
    }
}

impl Line {
    /// There is a connection; what was asked over an earlier one has failed.
    pub fn open(self: &Arc<Self>) -> Open {
        let (sender, asked) = mpsc::channel(UNDER_WAY_MAX);
        let mut state = self.state();
        let number = state.next();
        state.open = Some((number, sender));
        state.waiting.clear();
        drop(state);
        Open { line: self.clone(), number, asked }
    }

    /// Asks, and waits for the answer as long as the connection lives.
    pub async fn ask(&self, request: &Request) -> Result<RestAnswer, NoAnswer> {
        let ended = || NoAnswer::Broken("the node's connection has ended".to_owned());
        let _seat = self.seats.acquire().await.map_err(|error| NoAnswer::Broken(error.to_string()))?;
        let (answered, answer) = oneshot::channel();
        let (sender, waits) = self.enter(answered)?;
        let asked = Asked { number: waits.number, text: rest::ask(waits.number, request) };
        sender.send(asked).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    fn enter(&self, answered: oneshot::Sender<RestAnswer>) -> Result<(Sender<Asked>, Waits<'_>), NoAnswer> {
        let mut state = self.state();
        let Some((_, sender)) = state.open.clone() else {
            return Err(NoAnswer::Broken("the node is not connected".to_owned()));
        };
        let number = state.next();
        state.waiting.insert(number, answered);
        Ok((sender, Waits { line: self, number }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }
}

impl Open {
    /// Whether somebody still waits for the answer: what nobody waits for is not sent any more.
    pub fn is_wanted(&self, asked: &Asked) -> bool {
        self.line.state().waiting.contains_key(&asked.number)
    }

    /// An answer has come. False: nobody waits for it.
    pub fn answered(&self, answer: RestAnswer) -> bool {
        let asker = answer.number.and_then(|number| self.line.state().waiting.remove(&number));
        asker.is_some_and(|asker| asker.send(answer).is_ok())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.line.state();
        // A later connection may be there already.
        if state.open.as_ref().is_some_and(|(number, _)| *number == self.number) {
            state.open = None;
            state.waiting.clear();
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.line.state().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ari::request;
    use futures_util::FutureExt as _;
    use std::pin::pin;

    fn says(number: u64, status: u16) -> RestAnswer {
        RestAnswer { number: Some(number), status, body: String::new() }
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let line = Arc::new(Line::default());
        let mut open = line.open();
        let request = request::channels();
        let (mut one, mut two) = (pin!(line.ask(&request)), pin!(line.ask(&request)));
        assert!(one.as_mut().now_or_never().is_none() && two.as_mut().now_or_never().is_none());
        let (first, second) = (open.asked.recv().await.unwrap(), open.asked.recv().await.unwrap());
        assert!(open.answered(says(second.number, 202)));
        assert!(!open.answered(says(second.number, 500)), "answered twice");
        assert!(
            !open.answered(says(4711, 200)) && !open.answered(RestAnswer { number: None, ..says(0, 200) })
        );
        assert!(open.answered(says(first.number, 201)));
        assert_eq!((one.await.unwrap().status, two.await.unwrap().status), (201, 202));
    }

    #[tokio::test]
    async fn all_that_waits_fails_when_the_connection_ends() {
        let line = Arc::new(Line::default());
        let request = request::channels();
        assert!(line.ask(&request).await.is_err(), "nobody is connected");
        for replaced in [false, true] {
            let open = line.open();
            let mut asks = Box::pin(line.ask(&request));
            assert!(asks.as_mut().now_or_never().is_none());
            let newer = replaced.then(|| line.open());
            drop(open);
            assert!(asks.await.is_err(), "{replaced}");
            // The end of an earlier connection does not end the later one.
            assert_eq!(line.ask(&request).now_or_never().is_some(), !replaced);
            drop(newer);
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_sent() {
        let line = Arc::new(Line::default());
        let mut open = line.open();
        let request = request::channels();
        let mut asks = Box::pin(line.ask(&request));
        assert!(asks.as_mut().now_or_never().is_none());
        let asked = open.asked.recv().await.unwrap();
        assert!(open.is_wanted(&asked));
        drop(asks);
        assert!(!open.is_wanted(&asked));
        assert!(line.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_the_limit() {
        let line = Arc::new(Line::default());
        let mut open = line.open();
        let request = request::channels();
        let mut all: Vec<_> = (0..=UNDER_WAY_MAX).map(|_| Box::pin(line.ask(&request))).collect();
        assert!(all.iter_mut().all(|asks| asks.as_mut().now_or_never().is_none()));
        let mut sent = Vec::new();
        while let Ok(asked) = open.asked.try_recv() {
            sent.push(asked.number);
        }
        assert_eq!(sent.len(), UNDER_WAY_MAX);
        assert!(open.answered(says(sent[0], 200)));
        assert_eq!(all.remove(0).await.unwrap().status, 200);
        assert!(all.last_mut().unwrap().as_mut().now_or_never().is_none());
        assert!(open.asked.try_recv().is_ok());
    }
}
