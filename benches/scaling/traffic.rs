//! When calls come, and how long they last.

use fastrand::Rng;

/// How long calls last: log-normal, as call centres measure it (Brown et al., *Statistical Analysis of a Telephone Call Center*,
/// JASA 100, 2005). A spread of 1 makes the standard deviation 1.3 times the mean, and three calls in ten longer than it.
#[derive(Clone, Copy)]
pub struct Hold {
    pub mean_s: f64,
    pub spread: f64,
}

impl Hold {
    /// Of a new call, in ms.
    pub fn draw(self, chance: &mut Rng) -> u64 {
        self.draw_around(self.middle(), chance)
    }

    /// What is left of a call that is up at any moment: long ones are more likely to be met.
    pub fn draw_left(self, chance: &mut Rng) -> u64 {
        let whole = self.draw_around(self.middle() + self.spread * self.spread, chance);
        (whole as f64 * chance.f64()) as u64 + 1
    }

    fn middle(self) -> f64 {
        self.mean_s.ln() - self.spread * self.spread / 2.0
    }

    fn draw_around(self, middle: f64, chance: &mut Rng) -> u64 {
        // Box and Muller's.
        let radius = (-2.0 * chance.f64().max(1e-300).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * chance.f64()).cos();
        ((middle + self.spread * normal).exp() * 1000.0) as u64 + 1
    }
}

/// Calls come independently of each other, so many a second on average.
pub struct Arrivals {
    per_ms: f64,
    next_ms: f64,
}

impl Arrivals {
    pub fn new(per_s: f64, chance: &mut Rng) -> Arrivals {
        let mut arrivals = Arrivals { per_ms: per_s / 1000.0, next_ms: 0.0 };
        arrivals.next_ms = arrivals.gap(chance);
        arrivals
    }

    /// How many come in this millisecond.
    pub fn at(&mut self, now: u64, chance: &mut Rng) -> u32 {
        let mut count = 0;
        while self.next_ms < (now + 1) as f64 {
            count += 1;
            self.next_ms += self.gap(chance);
        }
        count
    }

    fn gap(&self, chance: &mut Rng) -> f64 {
        -chance.f64().max(1e-300).ln() / self.per_ms
    }
}

/// What happens when. What is later than the end is forgotten.
pub struct Agenda<E> {
    at: Vec<Vec<E>>,
}

impl<E> Agenda<E> {
    pub fn new(lasts_ms: u64) -> Agenda<E> {
        Agenda { at: (0..=lasts_ms).map(|_| Vec::new()).collect() }
    }

    pub fn put(&mut self, at: u64, event: E) {
        if let Some(then) = self.at.get_mut(at as usize) {
            then.push(event);
        }
    }

    pub fn take(&mut self, now: u64) -> Vec<E> {
        self.at.get_mut(now as usize).map(std::mem::take).unwrap_or_default()
    }
}
