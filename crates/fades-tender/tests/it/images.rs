//! The images that the tests run: built beforehand, or here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folder of images: `FADES_IMAGES` where somebody has built them, as the
/// workspace's own tasks do; otherwise they are built once and kept beside the
/// test program.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("FADES_IMAGES") {
        Some(folder) if Path::new(&folder).join("misbehave.fades").is_file() => folder.into(),
        _ => built(),
    })
}

fn built() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    std::fs::create_dir_all(&out).unwrap();
    // Test programs of other crates may build at the same time.
    let lock = File::create(out.join("lock")).unwrap();
    lock.lock().unwrap();
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions");
    fades_build::build_workspace(&functions, &out).unwrap();
    out
}

/// The image of a function.
pub(crate) fn image(name: &str) -> PathBuf {
    folder().join(format!("{name}.fades"))
}

/// The symbols of a function, without the line that says whose they are.
pub(crate) fn symbols(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.sym"))).unwrap()
}
