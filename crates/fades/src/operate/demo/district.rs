//! A district's day: boards that measure seven things once a second.
//!
//! Everything follows from the seed, so that every demonstration asks about
//! the same readings.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Boards.
pub(super) const BOARDS: u64 = 8;

/// Seconds of the day.
const SECONDS: u64 = 86_400;

/// What a board measures: column, unit, decimals.
pub(super) const KINDS: [(&str, &str); 7] = [
    ("temperature", "Cel"),
    ("humidity", "%"),
    ("light", "lx"),
    ("audio", "dB"),
    ("proximity", "cm"),
    ("pm10", "ug/m3"),
    ("pm2.5", "ug/m3"),
];

/// The source's configuration.
pub(super) fn source() -> String {
    let mut text = "[source.district]\ntype = \"csv\"\nfiles = \"district/*.csv\"\n\
        time = { column = \"time\" }\ndevice = \"{file}\"\nlocation = \"district/{file}\"\npoints = [\n"
        .to_owned();
    for (kind, unit) in KINDS {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "  {{ column = \"{kind}\", unit = \"{unit}\" }},");
    }
    text + "]\n"
}

/// Writes a file for each board; returns the bytes of all.
pub(super) fn write(folder: &Path) -> io::Result<u64> {
    std::fs::create_dir(folder)?;
    let write = |board| move || board_file(&folder.join(format!("board-{board:02}.csv")), board);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=BOARDS)
            .map(|board| scope.spawn(write(board)))
            .collect();
        let mut bytes = 0;
        for thread in threads {
            let gone = |_| io::Error::other("a thread of the generator panicked");
            bytes += thread.join().map_err(gone)??;
        }
        Ok(bytes)
    })
}

fn board_file(path: &Path, board: u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let columns: Vec<&str> = KINDS.iter().map(|k| k.0).collect();
    writeln!(out, "time,{}", columns.join(","))?;
    let mut noise = Noise::new(board);
    // Seconds since midnight of 1 June 2026.
    for second in 0..SECONDS {
        let [t, h, l, a, p, c, f] = measure(board, second, &mut noise);
        let (hour, minute, s) = (second / 3600, second / 60 % 60, second % 60);
        writeln!(
            out,
            "2026-06-01T{hour:02}:{minute:02}:{s:02}Z,{t:.2},{h:.1},{l:.0},{a:.1},{p:.1},{c:.1},{f:.1}"
        )?;
    }
    out.flush()?;
    Ok(out.get_ref().metadata()?.len())
}

fn measure(board: u64, second: u64, noise: &mut Noise) -> [f64; 7] {
    let day = second as f64 / SECONDS as f64;
    // Coldest at five in the morning; boards differ by their place.
    let warmth = -((day - 5.0 / 24.0) * TAU).cos();
    let place = board as f64 / BOARDS as f64;
    let sun = (-(day * TAU).cos()).max(0.0);
    let rush = |at: f64| (-((day * 24.0 - at) / 1.2).powi(2)).exp();
    let traffic = rush(8.0) + rush(17.5);
    let coarse = 14.0 + 22.0 * traffic * (0.5 + place) + 3.0 * noise.next();
    [
        17.0 + 5.0 * warmth + 2.0 * place + 0.3 * noise.next(),
        62.0 - 14.0 * warmth + 2.0 * noise.next(),
        40_000.0 * sun * (0.6 + 0.4 * place) + 50.0 * noise.next().abs(),
        48.0 + 14.0 * traffic + 3.0 * noise.next(),
        150.0 + 100.0 * noise.next(),
        coarse.max(0.0),
        (0.45 * coarse + noise.next()).max(0.0),
    ]
}

/// Xorshift: numbers between -1 and 1, the same from run to run.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed << 32 | 1))
    }

    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Noise, measure, source};

    #[test]
    fn the_same_seed_gives_the_same_day_and_boards_differ() {
        let first = |board| measure(board, 30_000, &mut Noise::new(board));
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert!(first(3).iter().all(|v| v.is_finite()));
    }

    #[test]
    fn every_column_is_configured() {
        assert_eq!(source().matches("column = \"").count(), KINDS.len() + 1);
    }
}
