//! Which registers are read together. Pure.

use std::collections::BTreeSet;

use super::register::Register;
use crate::config::{ModbusSource, Table};

/// What may be in one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    gap: u16,
    most: u16,
    most_coils: u16,
}

/// A request: some neighbours of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) table: Table,
    pub(super) address: u16,
    pub(super) count: u16,
    /// Indexes of the registers in it, by address.
    pub(super) registers: Vec<usize>,
}

impl Bounds {
    pub(super) const fn new(config: &ModbusSource) -> Self {
        Self {
            gap: config.gap,
            most: config.most,
            most_coils: config.most_coils,
        }
    }
}

/// The requests for those registers of `all` that are `wanted`. `apart`: registers
/// that are not read together with what is before them.
pub(super) fn blocks(
    all: &[Register],
    wanted: &[usize],
    apart: &BTreeSet<usize>,
    is_bad: impl Fn(usize) -> bool,
    bounds: Bounds,
) -> Vec<Block> {
    let mut sorted: Vec<usize> = wanted.iter().copied().filter(|&i| !is_bad(i)).collect();
    sorted.sort_by_key(|&i| (all[i].table, all[i].address, i));
    let bad: Vec<&Register> = (0..all.len())
        .filter(|&i| is_bad(i))
        .map(|i| &all[i])
        .collect();
    let mut blocks: Vec<Block> = Vec::new();
    for i in sorted {
        let one = Block::of(all, i);
        match blocks.last_mut() {
            Some(last) if !apart.contains(&i) && last.takes(&one, &bad, bounds) => last.add(one),
            _ => blocks.push(one),
        }
    }
    blocks
}

impl Block {
    fn of(all: &[Register], i: usize) -> Self {
        Self {
            table: all[i].table,
            address: all[i].address,
            count: all[i].width(),
            registers: vec![i],
        }
    }

    /// The address after the last.
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// Whether the next register can be read in the same request.
    fn takes(&self, next: &Self, bad: &[&Register], bounds: Bounds) -> bool {
        let most = if self.table.is_bits() {
            bounds.most_coils
        } else {
            bounds.most
        };
        let end = self.end().max(next.end());
        let between = |r: &Register| {
            let address = u32::from(r.address);
            let within =
                address < next.address.into() && address + u32::from(r.width()) > self.end();
            r.table == self.table && within
        };
        self.table == next.table
            && u32::from(next.address) <= self.end() + u32::from(bounds.gap)
            && end - u32::from(self.address) <= most.into()
            && !bad.iter().any(|r| between(r))
    }

    fn add(&mut self, next: Self) {
        let end = self.end().max(next.end());
        // Bounded by the most of a request.
        self.count = (end - u32::from(self.address)) as u16;
        self.registers.extend(next.registers);
    }

    /// Two halves, cut where most is read over or else in the middle; `None` of
    /// a single register.
    pub(super) fn halves(&self, all: &[Register]) -> Option<(Self, Self)> {
        let n = self.registers.len();
        let end = |i: usize| u32::from(all[i].address) + u32::from(all[i].width());
        let gap = |k: usize| {
            let before = self.registers[..k].iter().map(|&i| end(i)).max();
            let next = u32::from(all[self.registers[k]].address);
            next.saturating_sub(before.unwrap_or(next))
        };
        let cut = (1..n).max_by_key(|&k| (gap(k), std::cmp::Reverse(k.abs_diff(n / 2))))?;
        let part = |indexes: &[usize]| {
            let mut blocks = indexes.iter().map(|&i| Self::of(all, i));
            let mut first = blocks.next()?;
            blocks.for_each(|b| first.add(b));
            Some(first)
        };
        Some((part(&self.registers[..cut])?, part(&self.registers[cut..])?))
    }

    /// The words of one of its registers.
    pub(super) fn words<'a>(&self, register: &Register, words: &'a [u16]) -> &'a [u16] {
        let from = usize::from(register.address.saturating_sub(self.address));
        words.get(from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Block, Bounds, blocks};
    use crate::config::{ModbusRegister, Table};
    use crate::modbus::register::Register;

    const BOUNDS: Bounds = Bounds {
        gap: 4,
        most: 20,
        most_coils: 2000,
    };

    fn registers(at: &[(&str, u16, &str)]) -> Vec<Register> {
        let one = |(table, address, coding): &(&str, u16, &str)| {
            let text = format!(
                "table = \"{table}\"\naddress = {address}\ntype = \"{coding}\"\nkind = \"k\""
            );
            Register::new(&toml::from_str::<ModbusRegister>(&text).unwrap())
        };
        at.iter().map(one).collect()
    }

    fn planned(all: &[Register], apart: &[usize], bad: &[usize]) -> Vec<(Table, u16, u16)> {
        let wanted: Vec<usize> = (0..all.len()).collect();
        let apart: BTreeSet<usize> = apart.iter().copied().collect();
        let blocks = blocks(all, &wanted, &apart, |i| bad.contains(&i), BOUNDS);
        blocks
            .iter()
            .map(|b| (b.table, b.address, b.count))
            .collect()
    }

    #[test]
    fn neighbours_are_read_together() {
        let all = registers(&[
            ("holding", 6, "f32"),
            ("holding", 0, "u16"),
            ("holding", 12, "u16"),
            ("input", 1, "u16"),
            ("holding", 19, "u32"),
            ("coil", 7, "bool"),
        ]);
        let expected = [
            (Table::Coil, 7, 1),
            (Table::Holding, 0, 1), // five between: too many
            (Table::Holding, 6, 7),
            (Table::Holding, 19, 2),
            (Table::Input, 1, 1),
        ];
        assert_eq!(planned(&all, &[], &[]), expected);
        let long = registers(&[
            ("holding", 0, "u16"),
            ("holding", 4, "f64"),
            ("holding", 8, "f64"),
            ("holding", 12, "f64"),
            ("holding", 16, "f64"),
            ("holding", 20, "u16"),
        ]);
        assert_eq!(
            planned(&long, &[], &[]),
            [(Table::Holding, 0, 20), (Table::Holding, 20, 1)]
        );
    }

    #[test]
    fn bad_registers_are_neither_read_nor_read_over() {
        let all = registers(&[
            ("input", 0, "u16"),
            ("input", 1, "u16"),
            ("input", 2, "u16"),
        ]);
        assert_eq!(planned(&all, &[], &[]), [(Table::Input, 0, 3)]);
        let apart = [(Table::Input, 0, 1), (Table::Input, 2, 1)];
        assert_eq!(planned(&all, &[], &[1]), apart);
        let two = [(Table::Input, 0, 2), (Table::Input, 2, 1)];
        assert_eq!(planned(&all, &[2], &[]), two);
    }

    #[test]
    fn a_block_is_cut_where_it_reads_over_most() {
        let all = registers(&[
            ("input", 0, "u16"),
            ("input", 1, "u16"),
            ("input", 2, "u16"),
            ("input", 5, "u16"),
        ]);
        let whole = blocks(&all, &[0, 1, 2, 3], &BTreeSet::new(), |_| false, BOUNDS);
        let (left, right) = whole[0].halves(&all).unwrap();
        assert_eq!((left.count, right.address, right.count), (3, 5, 1));
        let (left, right) = left.halves(&all).unwrap();
        assert_eq!((left.count, right.count), (1, 2));
        assert_eq!(left.halves(&all), None);
    }

    proptest! {
        /// Each register that is wanted and not bad is in exactly one block, whole,
        /// and no block is longer than it may be.
        #[test]
        fn every_register_is_in_one_block(
            at in prop::collection::vec((0..3_usize, 0..200_u16), 1..60),
            bad in prop::collection::btree_set(0..60_usize, 0..5),
            apart in prop::collection::btree_set(0..60_usize, 0..5),
        ) {
            let codings = ["u16", "f32", "i64"];
            let at: Vec<_> = at.iter().map(|&(c, a)| ("holding", a, codings[c])).collect();
            let all = registers(&at);
            let wanted: Vec<usize> = (0..all.len()).collect();
            let planned = blocks(&all, &wanted, &apart, |i| bad.contains(&i), BOUNDS);
            let mut seen = BTreeSet::new();
            for b in &planned {
                prop_assert!(b.count <= BOUNDS.most);
                for &i in &b.registers {
                    prop_assert!(seen.insert(i));
                    let r = &all[i];
                    prop_assert!(r.address >= b.address);
                    prop_assert!(u32::from(r.address + r.width()) <= b.end());
                }
                let halves = b.halves(&all).into_iter().flat_map(|(a, b)| [a, b]);
                let parts: Vec<usize> = halves.flat_map(|h: Block| h.registers).collect();
                prop_assert!(parts.is_empty() == (b.registers.len() == 1));
                prop_assert!(parts.is_empty() || parts == b.registers);
            }
            let expected: BTreeSet<usize> = wanted.iter().copied().filter(|i| !bad.contains(i)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
