use fades_abi::batch::Batch;
use memmap2::Mmap;

use super::{Batches, Label, NoRoom, Place, Urgency};
use crate::chunk::{Capacity, Chunk, ChunkSeries, Segment};
use crate::series::SeriesKey;

const PAGE: u64 = fades_abi::INPUT_PAGE;

fn chunk(rows: usize) -> Chunk {
    let mut segment = Segment::default();
    for i in 0..rows {
        segment.push(i as i64, i as f64, u8::from(i == 3));
    }
    Chunk {
        series: vec![ChunkSeries {
            id: 0,
            key: SeriesKey {
                device: "d".into(),
                location: "l".into(),
                kind: "k".into(),
                unit: "u".into(),
            },
            complete: true,
            segments: vec![segment],
        }],
    }
}

fn write(batches: &Batches, rows: usize) -> Result<super::BatchFile, NoRoom> {
    let room = Capacity::cost(&chunk(0).series[0].key, rows as u64);
    let length = Capacity::bytes(room).next_multiple_of(PAGE);
    let lease = batches
        .budget()
        .reserve(length, || Urgency::Now, |_, _| false)
        .unwrap();
    let label = Label {
        dto: 1,
        sequence: 2,
    };
    batches.write(label, chunk(rows), lease)
}

fn places(budget: u64) -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let best = Place::find(&folder.path().join("mount"), budget);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    vec![best, Place::find(&file.join("x"), budget)]
}

#[test]
fn a_batch_is_whole_in_every_place() {
    for place in places(32 * PAGE) {
        let batches = Batches::at(place, 32 * PAGE, 8 * PAGE).unwrap();
        let made = write(&batches, 200_000).unwrap();
        assert_eq!(made.length, 2 * PAGE);
        let file = std::fs::File::from(made.descriptor);
        // A batch cannot change any more, which this is about.
        #[expect(unsafe_code, reason = "mapping a batch")]
        // SAFETY: nobody can write the file.
        let mapping = unsafe { Mmap::map(&file) }.unwrap();
        let batch = Batch::open(&mapping).unwrap();
        assert_eq!(
            (batch.dto(), batch.sequence(), batch.rows()),
            (1, 2, 200_000)
        );
        let series = batch.series().next().unwrap();
        assert!(series.complete && series.value[199_999] == 199_999.0);
        assert_eq!(series.mark.map(|m| (m[3], m[4])), Some((1, 0)));
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output"
)]
fn a_full_file_system_is_an_error_that_says_so_and_leaves_nothing() {
    let place = places(2 * PAGE).swap_remove(0);
    if !place.is_huge() {
        println!(
            "SKIPPED: a full file system: no tmpfs can be mounted here: {:?}",
            place.advice()
        );
        return;
    }
    // The budget promises more than the file system has.
    let batches = Batches::at(place, 64 * PAGE, 8 * PAGE).unwrap();
    for _ in 0..3 {
        let error = write(&batches, 500_000).unwrap_err().to_string();
        assert!(
            error.contains("No space left") && error.contains("node.memory"),
            "{error}"
        );
    }
    let kept = write(&batches, 200_000).unwrap();
    assert!(write(&batches, 10_000).is_err());
    drop(kept);
    assert!(
        write(&batches, 200_000).is_ok(),
        "what is dropped comes back"
    );
}

#[test]
fn a_budget_below_one_batch_is_refused() {
    let place = places(PAGE).swap_remove(1);
    let error = Batches::at(place, PAGE - 1, PAGE).unwrap_err().to_string();
    assert!(error.contains("node.memory"), "{error}");
}

#[test]
fn a_batch_is_at_most_a_quarter_of_the_budget() {
    let chunk = |budget, chunk| {
        let place = places(PAGE).swap_remove(1);
        Batches::at(place, budget, chunk).unwrap().chunk
    };
    assert_eq!(chunk(16 * PAGE, 8 * PAGE), 4 * PAGE);
    assert_eq!(chunk(64 * PAGE, 8 * PAGE + 5), 8 * PAGE);
    assert_eq!(chunk(2 * PAGE, 8 * PAGE), PAGE);
}

#[test]
fn series_are_where_they_belong_however_many_threads_fill() {
    let batches = Batches::at(places(64 * PAGE).swap_remove(0), 64 * PAGE, 16 * PAGE).unwrap();
    // Times go back within a series; some series have marks.
    let series = |id: u32| {
        let mut segments = vec![Segment::default(), Segment::default()];
        for i in 0..u64::from(id) * 400 {
            let time = (i * 7919 % 5003) as i64;
            let mark = u8::from(id.is_multiple_of(3) && i.is_multiple_of(5));
            segments[(i % 2) as usize].push(time, f64::from(id), mark);
        }
        ChunkSeries {
            id,
            segments,
            ..chunk(0).series.remove(0)
        }
    };
    let all: Vec<ChunkSeries> = (1..50).map(series).collect();
    let rows: usize = all.iter().map(ChunkSeries::rows).sum();
    assert!(rows > super::MANY_ROWS);
    let lease = batches
        .budget()
        .reserve(16 * PAGE, || Urgency::Now, |_, _| false);
    let label = Label {
        dto: 0,
        sequence: 0,
    };
    let made = batches.write(label, Chunk { series: all }, lease.unwrap());
    let file = std::fs::File::from(made.unwrap().descriptor);
    #[expect(unsafe_code, reason = "mapping a batch")]
    // SAFETY: nobody can write the file.
    let mapping = unsafe { Mmap::map(&file) }.unwrap();
    let batch = Batch::open(&mapping).unwrap();
    assert_eq!(batch.rows(), rows);
    for (id, series) in (1..).zip(batch.series()) {
        assert_eq!((series.id, series.time.len()), (id, id as usize * 400));
        assert!(series.time.is_sorted());
        assert!(series.value.iter().all(|v| *v == f64::from(id)));
        let marked = series.mark.unwrap().iter().filter(|m| **m != 0).count();
        assert_eq!(marked, if id % 3 == 0 { id as usize * 80 } else { 0 });
    }
}
