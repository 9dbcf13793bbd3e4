//! What concerns one channel is sent in the order in which it was asked for, although each question is a task of its own.

use crate::domain::id::ChannelId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot::{self, Receiver, Sender};

/// The lines of one node's channels.
#[derive(Clone, Debug, Default)]
pub struct Order(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    numbered: u64,
    last: BTreeMap<ChannelId, (u64, Receiver<()>)>,
}

/// A place in the lines of some channels. Whoever comes later waits until it is dropped.
#[derive(Debug)]
pub struct Turn {
    order: Order,
    number: u64,
    channels: Vec<ChannelId>,
    before: Vec<Receiver<()>>,
    // Dropping them lets the next ones go on.
    _mine: Vec<Sender<()>>,
}

impl Order {
    /// Takes a place, now.
    pub fn queue(&self, channels: &[&ChannelId]) -> Turn {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.numbered += 1;
        let number = lines.numbered;
        let (mut before, mut mine) = (Vec::new(), Vec::new());
        for channel in channels {
            let (sender, receiver) = oneshot::channel();
            before.extend(lines.last.insert((*channel).clone(), (number, receiver)).map(|(_, last)| last));
            mine.push(sender);
        }
        drop(lines);
        let channels = channels.iter().map(|channel| (*channel).clone()).collect();
        Turn { order: self.clone(), number, channels, before, _mine: mine }
    }
}

impl Turn {
    /// Waits until nobody is before.
    pub async fn come(&mut self) {
        while let Some(before) = self.before.last_mut() {
            // An error is what is waited for: the one before has dropped its sender.
            let _ = before.await;
            self.before.pop();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.order.0.lock().unwrap_or_else(PoisonError::into_inner);
        for channel in &self.channels {
            if lines.last.get(channel).is_some_and(|(number, _)| *number == self.number) {
                lines.last.remove(channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn name(text: &str) -> ChannelId {
        text.parse().unwrap()
    }

    #[test]
    fn one_channel_one_line() {
        let (a, b) = (name("a"), name("b"));
        let order = Order::default();
        let mut first = order.queue(&[&a]);
        let mut second = order.queue(&[&a, &b]);
        let mut third = order.queue(&[&b]);
        assert!(first.come().now_or_never().is_some());
        assert!(second.come().now_or_never().is_none());
        assert!(third.come().now_or_never().is_none());
        drop(first);
        assert!(second.come().now_or_never().is_some());
        assert!(third.come().now_or_never().is_none());
        drop(second);
        assert!(third.come().now_or_never().is_some());
        drop(third);
        assert!(order.0.lock().unwrap().last.is_empty(), "nothing is left behind");
    }

    #[test]
    fn who_gives_up_lets_the_next_one_go() {
        let a = name("a");
        let order = Order::default();
        let first = order.queue(&[&a]);
        let second = order.queue(&[&a]);
        let mut third = order.queue(&[&a]);
        drop(second);
        assert!(third.come().now_or_never().is_some(), "the one directly before it is gone");
        drop(first);
    }
}
