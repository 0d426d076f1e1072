//! Builds functions with cargo, so that the same sources give the same images
//! wherever they lie.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::elf::{Built, ImageError, image_from_elf};
use crate::materials::Materials;

/// A function that has been built and written.
#[derive(Debug)]
pub struct Program {
    /// The image and what belongs to it.
    pub built: Built,
    /// The image's file, `NAME.fades`.
    pub image: PathBuf,
    /// The symbols' file, `NAME.sym`.
    pub symbols: PathBuf,
    /// The file with what it is made of, `NAME.cdx.json`.
    pub materials: PathBuf,
}

/// Why functions could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no such folder.
    #[error("there is no folder {}", .0.display())]
    Folder(PathBuf),
    /// cargo could not be started.
    #[error("cannot start `cargo`: install Rust, or put cargo into the PATH")]
    Start(#[source] io::Error),
    /// cargo failed, and has said why.
    #[error("cargo failed in {}: see its messages above", .folder.display())]
    Failed {
        /// Where it ran.
        folder: PathBuf,
    },
    /// cargo said something that cannot be understood.
    #[error("cannot understand cargo's output")]
    Output(#[from] serde_json::Error),
    /// Nothing was built.
    #[error("{} has no program: a function is a package with src/main.rs", .folder.display())]
    Nothing {
        /// Where cargo ran.
        folder: PathBuf,
    },
    /// A program cannot be an image.
    #[error("{} cannot be a function", .program.display())]
    Image {
        /// The linked program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: ImageError,
    },
    /// Two functions have the same name.
    #[error("two functions are named `{name}`: their images would overwrite each other")]
    Twice {
        /// The name.
        name: String,
    },
    /// A file could not be read or written.
    #[error("cannot read or write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Builds all functions of the package or workspace in `folder` and writes
/// their images, symbols and bills of materials into `out`, which is made when it does not exist.
/// cargo's messages go to standard error.
///
/// # Errors
/// When cargo fails or one of the programs cannot be an image.
pub fn build_workspace(folder: &Path, out: &Path) -> Result<Vec<Program>, BuildError> {
    if !folder.is_dir() {
        return Err(BuildError::Folder(folder.into()));
    }
    let flags = flags(&packages(folder)?);
    let known = Materials::of(folder)?;
    fs::create_dir_all(out).map_err(|source| file(out, source))?;
    let compiler = Compiler::write(out)?;
    let mut programs = BTreeMap::new();
    for (path, package) in link(folder, &flags, &compiler)? {
        let built = read(&path)?;
        let hash = Some(built.sha256.as_str());
        let bill = known.bill(&[&package], (&built.name, hash));
        if let Some((twice, _)) = programs.insert(built.name.clone(), (built, bill)) {
            return Err(BuildError::Twice { name: twice.name });
        }
    }
    if programs.is_empty() {
        let folder = folder.into();
        return Err(BuildError::Nothing { folder });
    }
    programs
        .into_values()
        .map(|(built, bill)| write(built, bill.as_deref(), out))
        .collect()
}

fn file(path: &Path, source: io::Error) -> BuildError {
    BuildError::File {
        path: path.into(),
        source,
    }
}

fn read(path: &Path) -> Result<Built, BuildError> {
    let elf = fs::read(path).map_err(|source| file(path, source))?;
    image_from_elf(&elf).map_err(|source| BuildError::Image {
        program: path.into(),
        source,
    })
}

fn write(built: Built, bill: Option<&str>, out: &Path) -> Result<Program, BuildError> {
    let image = out.join(format!("{}.fades", built.name));
    let symbols = out.join(format!("{}.sym", built.name));
    fs::write(&symbols, built.symbol_file()).map_err(|source| file(&symbols, source))?;
    let materials = out.join(format!("{}.cdx.json", built.name));
    // cargo knows every package that it has built.
    fs::write(&materials, bill.unwrap_or_default()).map_err(|source| file(&materials, source))?;
    fs::write(&image, &built.image).map_err(|source| file(&image, source))?;
    Ok(Program {
        built,
        image,
        symbols,
        materials,
    })
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// All packages that take part in the build.
fn packages(folder: &Path) -> Result<Vec<Package>, BuildError> {
    let metadata: Metadata = metadata(folder, &[])?;
    Ok(metadata.packages)
}

/// What cargo knows of the package or workspace in `folder`.
pub(crate) fn metadata<T: DeserializeOwned>(folder: &Path, more: &[&str]) -> Result<T, BuildError> {
    let output = cargo(folder)
        .args(["metadata", "--format-version=1"])
        .args(more)
        .stderr(Stdio::inherit())
        .output()
        .map_err(BuildError::Start)?;
    if !output.status.success() {
        let folder = folder.into();
        return Err(BuildError::Failed { folder });
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Compiler flags that keep the places of sources out of images: panics name
/// `PACKAGE-VERSION/src/file.rs` wherever the package lies.
fn flags(packages: &[Package]) -> String {
    let remap = |package: &Package| {
        let folder = package.manifest_path.parent()?.display();
        let Package { name, version, .. } = package;
        Some(format!("--remap-path-prefix={folder}={name}-{version}"))
    };
    let mut flags: Vec<_> = packages.iter().filter_map(remap).collect();
    // cargo does not look at who compiles: what it has built with another compiler in
    // front, or with none, it would take for the same.
    flags.push("--cfg=fades_image".to_owned());
    flags.join("\x1f")
}

/// What cargo runs instead of the compiler; the file is removed in the end.
struct Compiler(PathBuf);

impl Compiler {
    /// Beside the images: there programs may be executed, unlike in some folders for
    /// temporary files.
    fn write(out: &Path) -> Result<Self, BuildError> {
        let out = std::path::absolute(out).map_err(|source| file(out, source))?;
        let path = out.join(format!(".rustc-{}", std::process::id()));
        let compiler = Self(path);
        let mode = fs::Permissions::from_mode(0o755);
        fs::write(&compiler.0, include_str!("rustc.sh"))
            .and_then(|()| fs::set_permissions(&compiler.0, mode))
            .map_err(|source| file(&compiler.0, source))?;
        Ok(compiler)
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // A file that stays is harmless.
        let _ = fs::remove_file(&self.0);
    }
}

/// Has cargo link all programs; returns their paths, and the ids of their packages.
fn link(
    folder: &Path,
    flags: &str,
    compiler: &Compiler,
) -> Result<Vec<(PathBuf, String)>, BuildError> {
    let output = cargo(folder)
        .args(["build", "--release", "--bins"])
        .arg("--message-format=json-render-diagnostics")
        // The flags of whoever builds must not change an image: one built for
        // the native processor would not run elsewhere.
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("RUSTC_WRAPPER", &compiler.0)
        .stderr(Stdio::inherit())
        .output()
        .map_err(BuildError::Start)?;
    if !output.status.success() {
        let folder = folder.into();
        return Err(BuildError::Failed { folder });
    }
    let mut paths = Vec::new();
    for line in output.stdout.split(|&b| b == b'\n') {
        if !line.is_empty() {
            let message: Message = serde_json::from_slice(line)?;
            paths.extend(message.executable.zip(message.package_id));
        }
    }
    paths.sort();
    Ok(paths)
}

#[derive(Deserialize)]
struct Message {
    /// The program, in messages about programs.
    #[serde(default)]
    executable: Option<PathBuf>,
    /// The package that it is of.
    #[serde(default)]
    package_id: Option<String>,
}

/// The cargo that runs this, or the one in the path.
fn cargo(folder: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}
