//! Greets, and counts the rows that it was given: the smallest function that
//! does something with its data. It takes no parameters.
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

#[cfg(test)]
mod tests {
    use super::*;
    use fades_sdk::testing::{Run, Series};

    #[test]
    fn greets_and_counts_the_rows_of_all_batches() {
        let hall = Series::new("board-1", "temperature", "Cel", "hall");
        let batch = [hall.row(0, 20.0).row(1, 21.0)];
        let answer = Run::new().batch(&batch).batch(&batch).answer::<Hello>();
        let values = answer.unwrap().values;
        assert_eq!(values["greeting"], "hello, world");
        assert_eq!(values["rows"], 4);
    }
}
