//! Naming an address for a report.

use super::{ALARM, DOORBELL, INPUT, INPUT_MAX, Layout, Part, Span};
use crate::address::{GuestAddr, PAGE};
use crate::image::Access;

/// How far from a region an address is still said to be next to it, bytes.
const NEAR: u64 = 16 << 20;

/// How far below its stack a function can plausibly reach with one frame,
/// bytes.
const NEAR_STACK: u64 = 256 << 20;

impl Layout {
    /// What lies at `address`, or next to it, in words; `input` is the length
    /// of the batch that is mapped, bytes.
    pub(crate) fn place(&self, address: GuestAddr, input: u64) -> String {
        if let Some(span) = self.spans.iter().find(|s| s.contains(address)) {
            return format!("{}{}", words(span.part), suffix(span));
        }
        let window = (INPUT.0..INPUT.0 + INPUT_MAX).contains(&address.0);
        match address.0 {
            a if window && a - INPUT.0 < input => "the input (read-only)".to_owned(),
            _ if window && input == 0 => "the input window, in which no batch lies".to_owned(),
            _ if window => "past the end of the input batch".to_owned(),
            a if a < PAGE => "the null page".to_owned(),
            a if (DOORBELL.0..DOORBELL.0 + PAGE).contains(&a) => "the doorbell".to_owned(),
            a if (ALARM.0..ALARM.0 + PAGE).contains(&a) => "the monitor's doorbell".to_owned(),
            a if (a as i64) << 16 >> 16 != a as i64 => "not an address".to_owned(),
            _ => self.next_to(address),
        }
    }

    fn next_to(&self, address: GuestAddr) -> String {
        let before = self.spans.iter().rev().find(|s| s.end() <= address);
        let after = self.spans.iter().find(|s| s.start > address);
        if let Some(stack) = after.filter(|s| s.part == Part::Stack)
            && stack.start.0 - address.0 <= NEAR_STACK
        {
            return "below the stack".to_owned();
        }
        if let Some(span) = before.filter(|s| address.0 - s.end().0 < NEAR) {
            return format!("past the end of {}", words(span.part));
        }
        if let Some(span) = after.filter(|s| s.start.0 - address.0 <= NEAR) {
            return format!("before the start of {}", words(span.part));
        }
        "outside of every region".to_owned()
    }
}

const fn words(part: Part) -> &'static str {
    match part {
        Part::Gate => "the gate",
        Part::Monitor | Part::MonitorStack => "the monitor",
        Part::Boot => "the boot info",
        Part::Mailbox => "the mailbox",
        Part::Params => "the parameters",
        Part::Context => "the context",
        Part::State => "the checkpoint",
        Part::Text => "text",
        Part::Constants => "constants",
        Part::Data => "data",
        Part::Stack => "the stack",
        Part::Heap => "the heap",
        Part::Output => "the output window",
    }
}

const fn suffix(span: &Span) -> &'static str {
    match span.access {
        Access::Read | Access::Execute => " (read-only)",
        Access::Write => " (not executable)",
    }
}
