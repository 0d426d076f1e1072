//! The control chart of one series.

/// When a shift is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    /// Readings from which the mean and the deviation are learned.
    pub(crate) learn: u64,
    /// What a reading may deviate without adding to a sum, in deviations.
    pub(crate) slack: f64,
    /// The sum at which a shift is told, in deviations.
    pub(crate) decide: f64,
}

/// Where a mean went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A mean that has shifted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shift {
    /// Time of the reading with which it was certain, ns since 1970 UTC.
    pub(crate) time: i64,
    /// Time of the first reading of the sum that tells it: about when it happened.
    pub(crate) since: i64,
    pub(crate) direction: Direction,
    /// The mean that was learned.
    pub(crate) mean: f64,
}

/// A sum, and the time of its first reading.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    pub(crate) since: i64,
}

impl Sum {
    fn add(&mut self, time: i64, value: f64) -> f64 {
        if self.value <= 0.0 {
            self.since = time;
        }
        self.value = (self.value + value).max(0.0);
        self.value
    }
}

/// What is known of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Chart {
    /// Readings that were learned from.
    pub(crate) learned: u64,
    /// Their mean, and the sum of their squared deviations from it.
    pub(crate) mean: f64,
    pub(crate) squares: f64,
    pub(crate) up: Sum,
    pub(crate) down: Sum,
    /// Time of the newest reading, ns since 1970 UTC.
    pub(crate) last: i64,
}

impl Default for Chart {
    fn default() -> Self {
        Self {
            learned: 0,
            mean: 0.0,
            squares: 0.0,
            up: Sum::default(),
            down: Sum::default(),
            last: i64::MIN,
        }
    }
}

impl Chart {
    pub(crate) const fn is_learning(&self, rule: &Rule) -> bool {
        self.learned < rule.learn
    }

    /// Takes the next reading; the shift that it makes certain.
    pub(crate) fn add(&mut self, rule: &Rule, time: i64, value: f64) -> Option<Shift> {
        self.last = time;
        if self.is_learning(rule) {
            self.learn(value);
            return None;
        }
        // A series that never changed has deviated by any change at all.
        let deviation = libm::sqrt(self.squares / (self.learned - 1) as f64);
        let z = match value - self.mean {
            0.0 => 0.0,
            difference => difference / deviation.max(f64::MIN_POSITIVE),
        };
        let z = z.clamp(-1e12, 1e12);
        let up = self.up.add(time, z - rule.slack);
        let down = self.down.add(time, -z - rule.slack);
        let (direction, sum) = match (up > rule.decide, down > rule.decide) {
            (true, _) => (Direction::Up, self.up),
            (false, true) => (Direction::Down, self.down),
            (false, false) => return None,
        };
        let shift = Shift {
            time,
            since: sum.since,
            direction,
            mean: self.mean,
        };
        *self = Self {
            last: time,
            ..Self::default()
        };
        Some(shift)
    }

    /// Welford's update of mean and squares.
    fn learn(&mut self, value: f64) {
        self.learned += 1;
        let before = value - self.mean;
        self.mean += before / self.learned as f64;
        self.squares += before * (value - self.mean);
    }
}
