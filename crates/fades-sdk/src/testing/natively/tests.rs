use super::*;
use crate::function::Abort;
use crate::output::Output;
use crate::testing::Series;

/// Adds up what it is given, times a parameter.
struct Sum {
    factor: i64,
    sum: f64,
}

impl Function for Sum {
    fn new(params: &Params) -> Result<Self, Abort> {
        let factor = params.or("factor", 1)?;
        Ok(Self { factor, sum: 0.0 })
    }

    fn batch(&mut self, batch: &Batch<'_>, _: &mut Output) -> Result<(), Abort> {
        self.sum += reduce::sum(batch.value());
        Ok(())
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        output.set("sum", self.sum * self.factor as f64);
        Ok(())
    }
}

/// A folder with two batches, and the command line for them.
fn asked(words: &[&str]) -> (tempfile::TempDir, Result<Wanted, Refused>) {
    let folder = tempfile::tempdir().unwrap();
    let series = |value| Series::new("d", "k", "", "").row(0, value);
    let run = Run::new().batch(&[series(1.5)]).batch(&[series(2.0)]);
    for (n, batch) in run.batches().iter().enumerate() {
        fs::write(folder.path().join(format!("{n}.batch")), batch).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    let words = words.iter().map(|w| w.replace("{}", path));
    let wanted = Wanted::parse(words);
    (folder, wanted)
}

#[test]
fn each_pass_is_timed_and_the_answer_is_kept() {
    let words = ["--times", "3", "--simd", "sse2", "--param", "factor=2"];
    let (folder, wanted) = asked(&[&words[..], &["--answer", "{}/answer", "{}"]].concat());
    let line = wanted.unwrap().run::<Sum>("sum").unwrap();
    assert!(
        line.starts_with(r#"{"function":"sum","simd":"sse2","batches":2,"bytes":"#),
        "{line}"
    );
    assert_eq!(
        line.split_once("\"seconds\":")
            .unwrap()
            .1
            .split(',')
            .count(),
        3
    );
    let answer = fs::read(folder.path().join("answer")).unwrap();
    let answer = crate::cbor::decode(&answer).unwrap();
    assert_eq!(answer["sum"], 7.0);
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    let refused = |words: &[&str]| match asked(words) {
        (_, Ok(wanted)) => wanted.run::<Sum>("sum").unwrap_err().to_string(),
        (_, Err(refused)) => refused.to_string(),
    };
    assert!(refused(&[]).contains("no batch file; use: [--times N]"));
    assert!(refused(&["--times", "0", "{}"]).contains("--times must be"));
    assert!(refused(&["--simd", "mmx", "{}"]).contains("--simd mmx is unknown"));
    assert!(refused(&["--memory"]).contains("--memory needs a value"));
    assert!(refused(&["--loud", "1"]).contains("--loud is unknown"));
    assert!(refused(&["--param", "factor", "{}"]).contains("has no ="));
    assert!(refused(&["--param", "factors=2", "{}"]).contains("`factors`"));
    assert!(refused(&["/nonexistent"]).starts_with("/nonexistent: "));
    assert!(refused(&["/proc/self/exe"]).contains("FADESBAT"));
}
