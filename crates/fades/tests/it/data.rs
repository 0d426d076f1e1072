//! The public data sets, unpacked once for all tests of this program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::stage::{can_run, skipped};

/// Folder of the packed data, or a word about the test that is skipped.
pub(crate) fn packed(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FADES_TEST_DATA").map(PathBuf::from);
    match folder {
        None => skipped(test, "FADES_TEST_DATA is not set"),
        Some(folder) if !folder.is_dir() => {
            skipped(
                test,
                &format!("FADES_TEST_DATA: {} is no folder", folder.display()),
            );
        }
        Some(folder) => return can_run(test).then_some(folder),
    }
    None
}

/// The Aberdeen set: 4,010 CSV files.
pub(crate) fn aberdeen(packed: &Path) -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    unpack(
        &FOLDER,
        packed,
        "aberdeen_sds011_luftdaten.tar.xz",
        &["--wildcards", "*.csv"],
    )
}

/// 45 rooms.
pub(crate) fn rooms(packed: &Path) -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    unpack(&FOLDER, packed, "keti_smart_building_1min.tar.xz", &[])
}

fn unpack(
    folder: &'static OnceLock<tempfile::TempDir>,
    packed: &Path,
    name: &str,
    members: &[&str],
) -> &'static Path {
    let made = folder.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("tar")
            .arg("-xJf")
            .arg(packed.join(name))
            .arg("-C")
            .arg(folder.path())
            .args(members)
            .status()
            .unwrap();
        assert!(status.success(), "tar could not unpack {name}");
        folder
    });
    made.path()
}
