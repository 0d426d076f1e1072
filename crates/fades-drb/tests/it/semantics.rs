//! What a DTO means over devices that are asked: who counts, who is late, what is
//! enough, and who shares what was fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fades_task::coverage::Coverage;
use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;

use crate::broker::{Broker, Ended, dto, each, soon, sources};
use crate::web::{Asked, Reply, Web};

/// Devices `a` to `c`, each at an address of its own.
fn boards(url: &str) -> Broker {
    let table = format!(
        "[source.boards]\ntype = \"http\"\nurl = \"{url}/{{device}}\"\nask = [\"a\", \"b\", \"c\"]\n\
         format = \"number\"\nkind = \"t\"\n"
    );
    Broker::start(&sources(&table), "/".as_ref())
}

fn now(name: &str, devices: &[&str]) -> Dto {
    Dto {
        take: Take::Now,
        device: devices.iter().map(|d| (*d).to_owned()).collect(),
        ..dto(name)
    }
}

fn clock() -> Time {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    Time(i64::try_from(now.as_nanos()).unwrap())
}

/// How often a path was asked for.
fn times(web: &Web, path: &str) -> usize {
    web.asked().iter().filter(|a| a.path == path).count()
}

/// Devices that count on from 0 each time they are asked; `c` says nothing while
/// it is told to.
fn counting(silent: &Arc<AtomicBool>) -> Web {
    let (silent, number) = (Arc::clone(silent), AtomicU32::new(0));
    Web::start(move |asked: &Asked| {
        if asked.path == "/c" && silent.load(Ordering::SeqCst) {
            return Reply::Silent;
        }
        let number = number.fetch_add(1, Ordering::SeqCst);
        Reply::Body(number.to_string().into_bytes())
    })
}

/// Asks until `is` holds.
fn until(broker: &Broker, dto: &Dto, within: &str, is: impl Fn(&Coverage) -> bool) -> Coverage {
    let deadline = soon().unwrap();
    loop {
        let (ended, _) = broker.run_in(std::slice::from_ref(dto), within);
        let coverage = ended.good();
        if is(&coverage) {
            return coverage;
        }
        assert!(Instant::now() < deadline, "{coverage:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn now_is_one_new_reading_of_each_device_and_late_ones_are_named_with_since_when() {
    let silent = Arc::<AtomicBool>::default();
    let web = counting(&silent);
    let broker = boards(&web.url);
    let began = clock();
    let (ended, totals) = broker.run_in(&[now("now", &[])], "20s");
    let coverage = ended.good();
    assert_eq!((coverage.matched, coverage.answered), (3, 3));
    assert_eq!((totals[0].rows, web.asked().len()), (3, 3));
    let first = totals[0].of("a", "t").values[0];
    // Later it is asked anew: nothing of the first answer is left.
    let deadline = soon().unwrap();
    loop {
        let (_, totals) = broker.run_in(&[now("now", &["a"])], "20s");
        assert_eq!(totals[0].rows, 1);
        if totals[0].of("a", "t").values[0] > first {
            break;
        }
        assert!(Instant::now() < deadline, "it is never asked again");
        std::thread::sleep(Duration::from_millis(50));
    }
    silent.store(true, Ordering::SeqCst);
    let seen = clock();
    let coverage = until(&broker, &now("now", &[]), "400ms", |c| c.late > 0);
    assert_eq!(
        (coverage.matched, coverage.answered),
        (3, 2),
        "{coverage:?}"
    );
    assert_eq!((coverage.late, coverage.failed), (1, 0));
    let [absent] = coverage.absent.as_slice() else {
        panic!("{coverage:?}")
    };
    assert!(absent.late && absent.device == "c", "{absent:?}");
    assert!(absent.reason.contains("has not answered"), "{absent:?}");
    let since = absent.since.unwrap();
    assert!(began <= since && since <= seen, "{began} {since} {seen}");
}

#[test]
fn need_is_a_share_of_those_asked_and_says_its_numbers() {
    let web = Web::start(|asked| match asked.path.as_str() {
        "/c" => Reply::Status(503, vec![], vec![]),
        _ => Reply::Body(b"1".to_vec()),
    });
    let broker = boards(&web.url);
    let need = |share: &str| Dto {
        need: Some(share.parse().unwrap()),
        ..now("pm", &[])
    };
    let (ended, totals) = broker.run_in(&[need("66%")], "20s");
    let coverage = ended.good();
    assert_eq!((coverage.answered, coverage.failed), (2, 1));
    let absent = &coverage.absent[0];
    assert!(!absent.late && absent.device == "c", "{absent:?}");
    assert!(absent.reason.contains("503"), "{absent:?}");
    assert_eq!(totals[0].devices(), ["a", "b"]);
    let (ended, _) = broker.run_in(&[need("67%")], "20s");
    assert!(!ended.finished);
    let words = ended.failure_text();
    assert!(
        words.contains("retrieve pm: 2 of 3 devices answered, needed: 67%"),
        "{words}"
    );
    // Who failed and why is said of a run that failed, too.
    assert_eq!(ended.coverage[0].absent[0].device, "c");
}

#[test]
fn late_devices_do_not_count_as_answers() {
    let silent = Arc::new(AtomicBool::new(true));
    let web = counting(&silent);
    let broker = boards(&web.url);
    let mut all = now("now", &[]);
    all.need = Some("100%".parse().unwrap());
    let began = Instant::now();
    let (ended, _) = broker.run_in(&[all], "400ms");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the time-out is 5s"
    );
    let words = ended.failure_text();
    assert!(words.contains("2 of 3 devices answered"), "{words}");
    assert_eq!((ended.coverage[0].late, ended.coverage[0].failed), (1, 0));
}

#[test]
fn dtos_that_overlap_share_what_is_fetched_and_get_nothing_else() {
    let web = Web::start(|_| {
        // Long enough for all to be waiting for the same answer.
        std::thread::sleep(Duration::from_millis(300));
        Reply::Body(b"7".to_vec())
    });
    let broker = boards(&web.url);
    let one = broker.begin_in(1, &[now("x", &["a", "b"]), now("y", &["b", "c"])], "20s");
    let two = broker.begin_in(2, &[now("z", &["b"])], "20s");
    let (fed, totals) = each(&one, 2);
    assert!(fed.finished);
    assert_eq!(totals[0].devices(), ["a", "b"]);
    assert_eq!(totals[1].devices(), ["b", "c"]);
    let (fed, totals) = each(&two, 1);
    assert!(fed.finished);
    assert_eq!(totals[0].devices(), ["b"]);
    drop((one, two));
    for _ in 0..2 {
        let ended = Ended::of(broker.report());
        assert_eq!(ended.failure, None);
    }
    assert_eq!(["/a", "/b", "/c"].map(|path| times(&web, path)), [1, 1, 1]);
}

#[test]
fn who_waits_longer_is_not_told_that_a_device_is_late_for_others() {
    let web = Web::start(|_| {
        std::thread::sleep(Duration::from_millis(900));
        Reply::Body(b"7".to_vec())
    });
    let broker = boards(&web.url);
    let ask = now("x", &["a"]);
    let short = broker.begin_in(1, std::slice::from_ref(&ask), "200ms");
    let long = broker.begin_in(2, &[ask], "20s");
    let (fed, totals) = each(&long, 1);
    assert!(fed.finished);
    assert_eq!(totals[0].of("a", "t").values, [7.0]);
    let (fed, _) = each(&short, 1);
    assert!(!fed.finished, "nobody answered in time");
    assert_eq!(times(&web, "/a"), 1);
}
