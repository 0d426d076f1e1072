use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Packing, deb, described, tarball};
use crate::system;

/// A package of few files, made in this order and at this time.
fn folder(root: &Path, names: &[&str], at: u64) {
    for name in names {
        let path = root.join(name);
        let above = path.parent().unwrap();
        fs::create_dir_all(above).unwrap();
        let control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\n\
                       Description: x\n";
        let content = if *name == "DEBIAN/control" {
            control
        } else {
            *name
        };
        fs::write(&path, content).unwrap();
        for made in [&path, above] {
            let mode = if made.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(made, Permissions::from_mode(mode)).unwrap();
            let time = std::time::UNIX_EPOCH + Duration::from_secs(at);
            File::open(made).unwrap().set_modified(time).unwrap();
        }
    }
}

const NAMES: [&str; 5] = [
    "DEBIAN/control",
    "usr/bin/b",
    "usr/bin/a",
    "usr/share/z",
    "usr/share/c",
];

const PACKING: Packing = Packing {
    made: Duration::from_secs(1_000_000_000),
    small: true,
};

/// Packs the same content twice, made in another order and at other times.
fn twice(pack: fn(&Path, &Path, &Packing) -> Result<(), crate::tree::Fault>) -> [Vec<u8>; 2] {
    let mut reversed = NAMES;
    reversed.reverse();
    // One is older than the time that is told, the other newer.
    [(NAMES, 900_000_000), (reversed, 1_700_000_000)].map(|(names, at)| {
        let folder_of_all = tempfile::tempdir().unwrap();
        let root = folder_of_all.path().join("x_1_all");
        folder(&root, &names, at);
        let to = folder_of_all.path().join("x.tar.gz");
        pack(&root, &to, &PACKING).unwrap();
        fs::read(to).unwrap()
    })
}

#[test]
fn the_same_content_makes_the_same_tarball() {
    let [one, other] = twice(tarball);
    assert!(one == other);
}

#[test]
fn the_same_content_makes_the_same_package() {
    if !system::exists("dpkg-deb") {
        println!("SKIPPED: the same package: no dpkg-deb; apt-get install dpkg");
        return;
    }
    let [one, other] = twice(deb);
    assert!(one == other);
}

#[test]
fn a_tarball_is_sorted_belongs_to_root_and_has_nothing_of_the_package() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("x_1_all");
    folder(&root, &NAMES, 5);
    let to = place.path().join("x.tar.gz");
    tarball(&root, &to, &PACKING).unwrap();
    let mut list = Command::new("tar");
    let said = list.env("TZ", "UTC").args(["--numeric-owner", "-tvf"]);
    let said = String::from_utf8(said.arg(&to).output().unwrap().stdout).unwrap();
    let names: Vec<_> = said
        .lines()
        .filter_map(|l| l.split(' ').next_back())
        .collect();
    assert_eq!(
        names,
        [
            "x_1_all/",
            "x_1_all/usr/",
            "x_1_all/usr/bin/",
            "x_1_all/usr/bin/a",
            "x_1_all/usr/bin/b",
            "x_1_all/usr/share/",
            "x_1_all/usr/share/c",
            "x_1_all/usr/share/z",
        ]
    );
    for line in said.lines() {
        assert!(line.contains(" 0/0 "), "{line}");
        assert!(line.contains("2001-09-09"), "{line}");
    }
}

#[test]
fn a_file_is_described_by_its_size_and_digest() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x");
    fs::write(&path, "abc").unwrap();
    let said = described(&path).unwrap();
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(said.ends_with(&format!("sha256 {digest}")), "{said}");
}
