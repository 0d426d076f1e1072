//! `cargo xtask dist`: what is deployed, as a tarball and as a Debian package.
//!
//! Both are packed from one folder, laid out as it is installed ([`layout`]), so that
//! the same programs always make the same archives ([`archive`]). Then the package is
//! judged ([`judges`]), and tried in a Debian of its own ([`smoke`]).

mod archive;
mod control;
mod judges;
mod layout;
mod licences;
mod signing;
mod smoke;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::functions;
use crate::system;
use crate::tree::{Fault, Tree, must, output};

const HELP: &str = "\
Makes what is deployed, in target/dist: a tarball and a Debian package.

Usage: cargo xtask dist [--debug] [--no-try] [--sign KEY]

  --debug     programs that are not optimised, for trying the packaging itself
  --no-try    do not install the package
  --sign KEY  sign the sums with the key in this file, one of ssh-keygen's

Beside them lie SHA256SUMS, its signature, and what the programs are made of.

The package is judged by lintian and systemd-analyze, and installed in a clean Debian
of its own, where systemd starts the node and tasks run; then it is upgraded, removed
and purged. That takes root, debootstrap, and the network the first time. What cannot
be done here is said: SKIPPED, with the remedy.
";

/// How the programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Release,
    /// For trying the packaging itself.
    Debug,
}

impl Profile {
    const fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

/// What is handed out.
struct Package {
    tarball: PathBuf,
    deb: PathBuf,
    /// What the programs are made of.
    bill: PathBuf,
    sums: PathBuf,
}

/// Carries out `cargo xtask dist`.
pub(crate) fn run(tree: &Tree, words: &[&str]) -> Result<ExitCode, Fault> {
    let (mut profile, mut tries, mut key) = (Profile::Release, true, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--debug" => profile = Profile::Debug,
            "--no-try" => tries = false,
            "--sign" => match words.next() {
                Some(file) => key = Some(Path::new(*file)),
                None => {
                    eprintln!("error: --sign needs the file of a key\n\n{HELP}");
                    return Ok(ExitCode::from(2));
                }
            },
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            other => {
                eprintln!("error: dist has no option {other}\n\n{HELP}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    needed()?;
    if let Some(key) = key {
        // Known before minutes are spent on what it shall sign.
        std::fs::metadata(key).map_err(|e| Fault::File(key.to_owned(), e))?;
    }
    build(tree, profile)?;
    let package = pack(tree, profile)?;
    let mut skipped = judges::all(tree, &package.deb)?;
    if tries {
        skipped.extend(smoke::run(tree, &package.deb)?);
    }
    println!();
    for made in [&package.deb, &package.tarball, &package.bill] {
        println!("{}", archive::described(made)?);
    }
    println!("{}", package.sums.display());
    if let Some(key) = key {
        println!("{}", signing::sign(&package.sums, key)?.display());
    }
    skipped.iter().for_each(|line| println!("SKIPPED: {line}"));
    Ok(ExitCode::SUCCESS)
}

/// The step of `cargo xtask test`: programs and functions are built already. Returns
/// what could not be tried here.
pub(crate) fn step(tree: &Tree) -> Result<Vec<String>, Fault> {
    if let Err(missing) = needed() {
        return Ok(vec![format!("package: {missing}")]);
    }
    let package = pack(tree, Profile::Debug)?;
    let mut skipped = judges::all(tree, &package.deb)?;
    skipped.extend(signing::tried(&package.sums)?);
    skipped.extend(smoke::run(tree, &package.deb)?);
    Ok(skipped)
}

/// Has programs not say where they were built: neither panics nor what debuggers are
/// told then depends on the folder of the tree, or on whose account it is.
fn placeless(tree: &Tree, build: &mut Command) {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let places = [
        (Some(tree.root.clone()), "/fades"),
        (home.or(user), "/cargo"),
    ];
    let places = places
        .iter()
        .filter_map(|(from, to)| Some((from.as_ref()?.display(), to)));
    let (mut rust, mut c) = (Vec::new(), Vec::new());
    for (from, to) in places {
        rust.push(format!("--remap-path-prefix={from}={to}"));
        c.push(format!("-ffile-prefix-map={from}={to}"));
    }
    // Flags of whoever builds would make other programs.
    build.env_remove("RUSTFLAGS").env_remove("CFLAGS");
    build
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f"))
        .env("CFLAGS", c.join(" "));
}

/// Without these nothing can be packed.
fn needed() -> Result<(), Fault> {
    for (program, package) in [
        ("dpkg-deb", "dpkg"),
        ("tar", "tar"),
        ("gzip", "gzip"),
        ("strip", "binutils"),
    ] {
        if !system::exists(program) {
            return Err(Fault::Missing(program, package));
        }
    }
    Ok(())
}

fn build(tree: &Tree, profile: Profile) -> Result<(), Fault> {
    println!("building fades and fades-tender ({})", profile.folder());
    let mut build = tree.cargo(&["build", "--locked", "-p", "fades", "-p", "fades-tender"]);
    if profile == Profile::Release {
        build.arg("--release");
        placeless(tree, &mut build);
    }
    must(&mut build)?;
    println!("building the functions");
    functions::build(tree, profile.folder())?;
    Ok(())
}

fn pack(tree: &Tree, profile: Profile) -> Result<Package, Fault> {
    let dist = tree.target.join("dist");
    let version = version(tree)?;
    let made = made_at(tree)?;
    let name = format!("fades_{version}_{}", control::architecture());
    let root = dist.join(&name);
    println!("laying out {}", root.display());
    layout::lay_out(tree, profile, &root, &version, made)?;
    let packing = archive::Packing {
        made,
        // Trying the packaging should not wait for the last percent.
        small: profile == Profile::Release,
    };
    println!("packing");
    let deb = dist.join(format!("{name}.deb"));
    archive::deb(&root, &deb, &packing)?;
    let tarball = dist.join(format!("{name}.tar.gz"));
    archive::tarball(&root, &tarball, &packing)?;
    let bill = dist.join(format!("{name}.cdx.json"));
    let inside = root.join("usr/share/doc/fades/fades.cdx.json");
    std::fs::copy(&inside, &bill).map_err(|e| Fault::File(inside, e))?;
    let sums = signing::sums(&[&deb, &tarball, &bill])?;
    Ok(Package {
        tarball,
        deb,
        bill,
        sums,
    })
}

/// The time that archives and what is in them say, since 1970: that of the last commit,
/// or `SOURCE_DATE_EPOCH`, as where there is no git.
fn made_at(tree: &Tree) -> Result<Duration, Fault> {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok();
    let text = match told {
        Some(told) => told,
        None => {
            let mut git = Command::new("git");
            git.current_dir(&tree.root);
            output(git.args(["log", "-1", "--format=%ct"]))?
        }
    };
    let seconds = text.trim().parse();
    let seconds = seconds.map_err(|_| Fault::Output(format!("the time {text:?}")))?;
    Ok(Duration::from_secs(seconds))
}

fn version(tree: &Tree) -> Result<String, Fault> {
    let words = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let text = output(&mut tree.cargo(&words))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Fault::Output(e.to_string()))?;
    let packages = metadata["packages"].as_array();
    let mut fades = packages
        .into_iter()
        .flatten()
        .filter(|p| p["name"] == "fades");
    let version = fades.next().and_then(|p| p["version"].as_str());
    version
        .map(str::to_owned)
        .ok_or_else(|| Fault::Output("no version of fades".to_owned()))
}
