//! Which files the globs of a source mean.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::input::{Identity, ReadError};

/// Most files of one source.
pub(crate) const MAX_FILES: usize = 200_000;

/// One component of a glob.
enum Step {
    /// A name that stands for itself.
    Name(String),
    /// Entries of a folder whose names match.
    Match(GlobMatcher),
    /// Any folders, also none.
    Folders,
}

/// Checks that `glob` is one.
pub(crate) fn check(glob: &str) -> Result<(), String> {
    steps(Path::new(glob)).map(drop)
}

/// What globs came to.
pub(crate) struct Found {
    /// The files that match, sorted.
    pub(crate) files: Vec<PathBuf>,
    /// What has to change before other files match: folders that were listed, and
    /// names at which there is no file. Their state is from before the look.
    pub(crate) looked: Vec<(PathBuf, Option<Identity>)>,
}

#[derive(Default)]
struct Walked {
    files: BTreeSet<PathBuf>,
    looked: Vec<(PathBuf, Option<Identity>)>,
}

/// The files that match any of `globs`; relative globs begin at `base`. No match
/// is not an error.
pub(crate) fn list(base: &Path, globs: &[String]) -> Result<Found, ReadError> {
    let mut found = Walked::default();
    for glob in globs {
        let path = base.join(glob);
        // Checked when the configuration was read; `base` itself is no glob.
        let Ok(steps) = steps(Path::new(glob)) else {
            continue;
        };
        let root = if path.is_absolute() && Path::new(glob).is_absolute() {
            PathBuf::from("/")
        } else {
            base.to_path_buf()
        };
        walk(root, &steps, &mut found)?;
    }
    Ok(Found {
        files: found.files.into_iter().collect(),
        looked: found.looked,
    })
}

fn steps(glob: &Path) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for component in glob.components() {
        let name = match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            Component::ParentDir => "..",
            Component::Normal(name) => name.to_str().ok_or("it is no UTF-8")?,
        };
        steps.push(if name == "**" {
            Step::Folders
        } else if name.contains(['*', '?', '[', '{']) {
            let glob = GlobBuilder::new(name)
                .literal_separator(true)
                .build()
                .map_err(|e| format!("{name:?} is no glob: {}", e.kind()))?;
            Step::Match(glob.compile_matcher())
        } else {
            Step::Name(name.to_owned())
        });
    }
    Ok(steps)
}

fn walk(at: PathBuf, steps: &[Step], found: &mut Walked) -> Result<(), ReadError> {
    let Some((step, rest)) = steps.split_first() else {
        let stamp = fs::metadata(&at).ok();
        if stamp.as_ref().is_some_and(fs::Metadata::is_file) {
            found.files.insert(at);
        } else {
            found.looked.push((at, stamp.as_ref().map(Identity::of)));
        }
        return enough(&found.files);
    };
    match step {
        Step::Name(name) => walk(at.join(name), rest, found),
        Step::Match(glob) => {
            for entry in entries(&at, &mut found.looked)? {
                if glob.is_match(entry.file_name()) {
                    walk(entry.path(), rest, found)?;
                }
            }
            Ok(())
        }
        Step::Folders => {
            walk(at.clone(), rest, found)?;
            for entry in entries(&at, &mut found.looked)? {
                // Links to folders are not followed: they can make circles.
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    walk(entry.path(), steps, found)?;
                }
            }
            Ok(())
        }
    }
}

fn enough(found: &BTreeSet<PathBuf>) -> Result<(), ReadError> {
    if found.len() > MAX_FILES {
        return Err(ReadError::TooManyFiles);
    }
    Ok(())
}

/// Entries of a folder; none when it is no folder or does not exist.
fn entries(
    folder: &Path,
    looked: &mut Vec<(PathBuf, Option<Identity>)>,
) -> Result<Vec<fs::DirEntry>, ReadError> {
    looked.push((folder.to_path_buf(), super::listing::stamp(folder)));
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    match listed {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        other => other.map_err(|e| ReadError::io("list the folder", folder, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, list};
    use std::fs;
    use std::path::PathBuf;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "a/1.csv",
            "a/2.csv",
            "a/x.txt",
            "b/1.csv",
            "b/c/3.csv",
            "[z]/9.csv",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir(folder.path().join("a/dir.csv")).unwrap();
        folder
    }

    fn found(globs: &[&str]) -> Vec<String> {
        let folder = tree();
        let globs: Vec<_> = globs.iter().map(|g| (*g).to_owned()).collect();
        let relative = |p: PathBuf| p.strip_prefix(folder.path()).unwrap().to_path_buf();
        let files = list(folder.path(), &globs).unwrap().files.into_iter();
        files
            .map(|p| relative(p).to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_stars_do_not() {
        assert_eq!(
            found(&["*/*.csv"]),
            ["[z]/9.csv", "a/1.csv", "a/2.csv", "b/1.csv"]
        );
        assert_eq!(found(&["b/**/*.csv"]), ["b/1.csv", "b/c/3.csv"]);
        assert_eq!(found(&["a/1.csv", "a/[1x].*"]), ["a/1.csv", "a/x.txt"]);
        assert_eq!(found(&["nowhere/*.csv", "a/1.csv/*"]), [""; 0]);
        assert_eq!(found(&["./b/../a/1.csv"]), ["b/../a/1.csv"]);
    }

    #[test]
    fn an_absolute_glob_ignores_the_base() {
        let folder = tree();
        let glob = format!("{}/a/*.csv", folder.path().display());
        let found = list(std::path::Path::new("/nonexistent"), &[glob]).unwrap();
        assert_eq!(found.files.len(), 2);
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        assert!(check("a/[b").is_err());
        assert!(check("a/{b").is_err());
        assert!(check("/srv/*/x.csv").is_ok());
    }
}
