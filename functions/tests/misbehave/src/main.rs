//! Does what a function must not do, one thing at a time.
//!
//! The parameter `do` names the deed (see [`deeds`]); `address` and `n` are its
//! arguments where it has some. With `do = "nothing"` it counts rows, so that
//! every deed has an innocent twin in the same image. It answers, when it gets
//! that far, with `{"did": …}`, which in most tests must not be seen.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;

#[cfg(image)]
mod deeds;
#[cfg(image)]
mod entry;
#[cfg(image)]
mod gate;

/// What is done, and what was seen on the way.
#[cfg_attr(not(image), expect(dead_code, reason = "the deeds use all of it"))]
struct Misbehave {
    deed: String,
    address: u64,
    n: u64,
    rows: u64,
    seen: Vec<String>,
    answer: Vec<(String, Value)>,
}

impl Function for Misbehave {
    fn new(params: &Params) -> Result<Self, Abort> {
        let mut this = Self {
            deed: params.or::<&str>("do", "nothing")?.to_owned(),
            address: params.or("address", 0)?,
            n: params.or("n", 0)?,
            rows: 0,
            seen: Vec::new(),
            answer: Vec::new(),
        };
        #[cfg(image)]
        deeds::at_start(&mut this)?;
        this.seen.push("new".to_owned());
        Ok(this)
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        self.rows += batch.rows() as u64;
        self.seen
            .push(format!("batch {} {}", batch.dto() as usize, batch.rows()));
        #[cfg(image)]
        deeds::with_input(self, batch);
        Ok(())
    }

    fn end(&mut self, dto: u32) -> Result<(), Abort> {
        self.seen.push(format!("end {}", dto as usize));
        Ok(())
    }

    fn window_end(&mut self, id: u64, _: i64, _: i64, out: &mut Output) -> Result<(), Abort> {
        self.seen.push(format!("window {}", id as usize));
        out.set("window", id);
        out.set("rows", self.rows);
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Abort> {
        self.seen.push("save".to_owned());
        Ok(self.rows.to_le_bytes().to_vec())
    }

    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort> {
        let Ok(bytes) = <[u8; 8]>::try_from(checkpoint) else {
            abort!("a strange checkpoint")
        };
        self.rows = u64::from_le_bytes(bytes);
        self.seen.push(format!("restore {}", self.rows as usize));
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> Result<(), Abort> {
        #[cfg(image)]
        deeds::at_the_end(self, out)?;
        out.set("did", self.deed.clone());
        out.set("rows", self.rows);
        let seen: Vec<Value> = self.seen.iter().map(|s| Value::from(s.clone())).collect();
        out.set("seen", seen);
        for (name, value) in core::mem::take(&mut self.answer) {
            out.set(name, value);
        }
        Ok(())
    }
}

#[cfg(not(image))]
function!(Misbehave);

#[cfg(test)]
mod tests {
    use super::*;
    use fades_sdk::testing::{Run, Series};

    #[test]
    fn without_a_deed_it_counts_rows() {
        let hall = Series::new("board-1", "temperature", "Cel", "hall");
        let answer = Run::new()
            .batch(&[hall.row(0, 1.0).row(1, 2.0)])
            .answer::<Misbehave>();
        let values = answer.unwrap().values;
        assert_eq!(values["did"], "nothing");
        assert_eq!(values["rows"], 2);
    }
}
