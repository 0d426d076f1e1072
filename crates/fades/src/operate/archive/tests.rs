use std::fs::File;
use std::path::{Path, PathBuf};

use fades_task::time::Time;

use super::{ArchiveError, Manifest, Reader, Writer};

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let case = Self { folder };
        std::fs::write(case.path("content"), "[node]\n").unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn manifest() -> Manifest {
        Manifest::new(
            "here".parse().unwrap(),
            Time(5_000_000_000),
            vec!["keys".to_owned()],
        )
    }

    /// A backup with one file under this name.
    fn written(&self, manifest: &Manifest, name: &str) -> PathBuf {
        let path = self.path("backup");
        let mut writer = Writer::begin(File::create(&path).unwrap(), manifest).unwrap();
        writer.add(name, &self.path("content")).unwrap();
        writer.end().unwrap();
        path
    }
}

fn refused(path: &Path) -> ArchiveError {
    Reader::open(path).err().expect("it was taken")
}

#[test]
fn what_was_written_is_read_and_any_tar_lists_it() {
    let case = Case::new();
    let path = case.written(&Case::manifest(), "conf.d/a.toml");
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.manifest, Case::manifest());
    let into = case.path("into");
    reader.extract(&into).unwrap();
    let text = std::fs::read_to_string(into.join("conf.d/a.toml")).unwrap();
    assert_eq!(text, "[node]\n");
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1);
    let listed = std::process::Command::new("tar")
        .arg("tf")
        .arg(&path)
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert_eq!(listed, "fades-backup.json\nconf.d/a.toml\nsha256\n");
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let case = Case::new();
    let path = case.written(&Case::manifest(), "node.toml");
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refused(&path);
        let expected = matches!(
            error,
            ArchiveError::Damaged { .. } | ArchiveError::Foreign(_)
        );
        assert!(expected, "{length}: {error}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        // Of the last header nothing but the name is used.
        let unused = whole.len() - 2048 + 6..whole.len() - 2048 + 512;
        assert!(unused.contains(&at) || Reader::open(&path).is_err(), "{at}");
    }
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(refused(&path), ArchiveError::Damaged { .. }));
}

#[test]
fn what_is_something_else_or_newer_is_told_from_what_is_damaged() {
    let case = Case::new();
    let path = case.path("other");
    for other in ["", "PK\x03\x04", &"x".repeat(5_000)] {
        std::fs::write(&path, other).unwrap();
        let error = refused(&path);
        assert!(matches!(error, ArchiveError::Foreign(_)), "{error}");
    }
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    tar.append_path_with_name(case.path("content"), "node.toml")
        .unwrap();
    tar.finish().unwrap();
    assert!(matches!(refused(&path), ArchiveError::Foreign(_)));
    let newer = Manifest {
        fades_backup: 2,
        ..Case::manifest()
    };
    let path = case.written(&newer, "node.toml");
    assert!(matches!(
        refused(&path),
        ArchiveError::TooNew { found: 2, .. }
    ));
    let gone = case.path("gone");
    assert!(matches!(refused(&gone), ArchiveError::File { .. }));
}

#[test]
fn nothing_is_written_outside_of_the_folder() {
    let case = Case::new();
    // The library that writes refuses most such names itself.
    for name in ["elsewhere.txt", "keys/a.key", "node.sock"] {
        let path = case.written(&Case::manifest(), name);
        let into = case.path("into");
        let error = Reader::open(&path).unwrap().extract(&into).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{name}");
        assert!(!into.exists());
    }
    assert!(!super::stays_inside(Path::new("state/../../x")));
    assert!(!super::stays_inside(Path::new("/state/x")));
    assert!(!super::stays_inside(Path::new("")));
    assert!(super::stays_inside(Path::new("state/images/x")));
}
