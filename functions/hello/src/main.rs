//! Greets, and counts the rows that it was given: the smallest function that
//! does something with its data.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;

struct Hello {
    rows: usize,
}

impl Function for Hello {
    fn new(_: &Params) -> Result<Self, Abort> {
        Ok(Self { rows: 0 })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        self.rows += batch.rows();
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        output.set("greeting", "hello, world");
        output.set("rows", self.rows);
        Ok(())
    }
}

function!(Hello);
