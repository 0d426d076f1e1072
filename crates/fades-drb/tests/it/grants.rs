//! What is granted is all that a broker looks at, whatever a DTO asks for. Nothing here
//! was compared with a grant before.

use fades_task::grant::{Granted, Least};
use fades_task::message::{BrokerReport, BrokerRequest};
use fades_task::mtw::{Dto, Take};
use fades_task::time::Time;

use crate::broker::{Broker, dto, settled, sources};

/// Two sources of two rooms, each of which has two kinds of readings.
fn broker() -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = String::new();
    for source in ["hall", "roof"] {
        for room in ["north", "south"] {
            let rows = "time,t,h\n1,20,50\n2,21,51\n";
            let path = folder.path().join(format!("{source}-{room}.csv"));
            std::fs::write(path, rows).unwrap();
        }
        tables += &format!(
            "[source.{source}]\ntype = \"csv\"\nfiles = \"{source}-*.csv\"\ndevice = \"{{file}}\"\n\
             location = \"{source}/{{file}}\"\n\
             time = {{ column = \"time\", format = \"unix-s\" }}\n\
             points = [{{ column = \"t\" }}, {{ column = \"h\" }}]\n"
        );
    }
    settled(folder.path());
    let broker = Broker::start(&sources(&tables), folder.path());
    (folder, broker)
}

fn everything() -> Granted {
    Granted {
        grant: "air".parse().unwrap(),
        kinds: vec![],
        locations: vec![],
        devices: vec![],
        sources: vec![],
        since: Some(Time(i64::MIN)),
        live: true,
        least: Least::default(),
    }
}

/// Asks for everything there is, under a grant.
fn under(change: impl FnOnce(&mut Granted)) -> Dto {
    let mut granted = everything();
    change(&mut granted);
    Dto {
        granted: Some(granted),
        ..dto("all")
    }
}

fn list(pattern: &str) -> Vec<String> {
    vec![pattern.to_owned()]
}

#[test]
fn readings_that_are_not_granted_are_not_given() {
    let (_folder, broker) = broker();
    let rows = |dto: Dto| {
        let (ended, totals) = broker.run(&[dto]);
        let matched = ended.good().matched;
        (matched, totals.rows)
    };
    assert_eq!(rows(under(|_| ())), (4, 16));
    assert_eq!(rows(under(|g| g.kinds = list("t"))), (4, 8));
    assert_eq!(rows(under(|g| g.locations = list("hall/**"))), (2, 8));
    assert_eq!(rows(under(|g| g.devices = list("*north*"))), (2, 8));
    assert_eq!(rows(under(|g| g.sources = list("ro*"))), (2, 8));
    assert_eq!(
        rows(under(|g| {
            (g.kinds, g.devices, g.sources) = (list("h"), list("*south*"), list("hall"));
        })),
        (1, 2)
    );
    // Who may see less is not given what another was just given, and the other way round.
    assert_eq!(rows(under(|g| g.kinds = list("h"))), (4, 8));
    assert_eq!(rows(dto("all")), (4, 16));
}

#[test]
fn what_is_not_granted_is_refused_in_words_that_tell_of_nothing_else() {
    let (_folder, broker) = broker();
    let failure = |dto: Dto| broker.run(&[dto]).0.failure_text();
    let early = failure(under(|g| g.since = Some(Time(1))));
    assert!(
        early.contains("not granted: grant air has ranges from 1970"),
        "{early}"
    );
    assert!(failure(under(|g| g.since = None)).contains("no ranges"));
    let live = Dto {
        take: Take::Now,
        ..under(|g| g.live = false)
    };
    assert!(failure(live).contains("nothing live"));
    let named = |name: &str| Dto {
        source: Some(name.parse().unwrap()),
        ..under(|g| g.sources = list("hall"))
    };
    assert!(failure(named("roof")).contains("not granted: source roof"));
    let nothing = failure(Dto {
        kind: list("x"),
        ..under(|g| {
            (g.kinds, g.locations, g.sources) = (list("[tx]"), list("*/*north*"), list("hall"))
        })
    });
    assert!(
        nothing.contains("kinds t; locations hall/hall-north"),
        "{nothing}"
    );
    assert!(
        !nothing.contains("south") && !nothing.contains("roof"),
        "{nothing}"
    );
}

#[test]
fn a_preview_shows_what_is_granted() {
    let (_folder, broker) = broker();
    let report = broker.ask(&BrokerRequest::Preview {
        id: 1,
        dtos: vec![under(|g| (g.kinds, g.sources) = (list("t"), list("roof")))],
        answers: vec![],
    });
    let BrokerReport::Previewed { previews, .. } = report else {
        panic!("{report:?}")
    };
    let preview = &previews.unwrap()[0];
    assert_eq!((preview.devices.len(), preview.readings), (2, 4));
    assert!(preview.sample.iter().all(|r| r.kind == "t"));
}

#[test]
fn a_function_is_given_nothing_before_enough_stands_behind_it() {
    let (_folder, broker) = broker();
    let least = |readings: u64, devices: u64| {
        let dto = under(|g| {
            g.kinds = list("t");
            g.least = Least { readings, devices };
        });
        let (ended, totals) = broker.run(&[dto]);
        (ended, totals.rows)
    };
    let (ended, rows) = least(8, 4);
    ended.good();
    assert_eq!(rows, 8);
    let (ended, rows) = least(9, 0);
    let failure = ended.failure_text();
    assert!(
        failure.contains("fewer readings than export.min-readings = 9"),
        "{failure}"
    );
    assert_eq!(rows, 0, "it was given some before");
    let (ended, rows) = least(0, 5);
    let failure = ended.failure_text();
    assert!(
        failure.contains("fewer devices than export.min-devices = 5"),
        "{failure}"
    );
    // How many there are is not said.
    assert!(!failure.contains('4'), "{failure}");
    assert_eq!(rows, 0);
    // Nothing at all is too little as well, however little the task needs.
    let none = Dto {
        from: Time(10_000_000_000),
        need: "0%".parse().ok(),
        ..under(|g| {
            g.least = Least {
                readings: 1,
                devices: 1,
            }
        })
    };
    let failure = broker.run(&[none]).0.failure_text();
    assert!(failure.contains("min-readings = 1"), "{failure}");
}
