//! Answers with the processor's time-stamp counter as its very first
//! instruction read it: `{"tsc": …}`.
//!
//! Who asked compares it with the counter from before the request and has the
//! time from there to the first instruction of a function, with nothing of the
//! function's own in it. The counter must be one that all processors share and
//! that a microVM sees as it is; a reading from before the request shows that
//! it is not. The rows of its input are not looked at.
#![cfg_attr(not(test), no_std, no_main)]

use fades_sdk::prelude::*;

#[cfg(image)]
mod entry;

struct First;

impl Function for First {
    fn new(_: &Params) -> Result<Self, Abort> {
        Ok(Self)
    }

    fn batch(&mut self, _: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        output.set("tsc", counter());
        Ok(())
    }
}

#[cfg(image)]
use entry::counter;

/// Without an image there is no first instruction.
#[cfg(not(image))]
const fn counter() -> u64 {
    0
}

#[cfg(not(image))]
function!(First);

#[cfg(test)]
mod tests {
    use super::*;
    use fades_sdk::testing::Run;

    #[test]
    fn the_counter_is_all_that_it_answers() {
        let answer = Run::new().answer::<First>().unwrap();
        let Value::Map(values) = answer.values else {
            panic!("{:?}", answer.values);
        };
        assert_eq!(values.get("tsc"), Some(&Value::Int(0)));
        assert_eq!(values.iter().count(), 1);
    }
}
