//! The tender's KVM tests in an emulated machine with `kvm_amd`.
//!
//! A host's own KVM is one of several kinds, and some hosts have none. QEMU
//! emulates a processor with SVM in software, on any host: a kernel of the
//! distribution boots there with an initial file system that holds nothing but
//! busybox, the tender, its test program and the images. The tests print to
//! the serial line as they do anywhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::tree::{Fault, Tree, must, output};

/// Longest time that the machine may take from power-on to power-off.
const PATIENCE: Duration = Duration::from_secs(300);

/// Packages that depend on the distribution's current kernel, Debian's first.
const KERNEL_PACKAGES: [&str; 3] = [
    "linux-image-amd64",
    "linux-image-virtual",
    "linux-image-generic",
];

/// Modules in the order in which they are loaded.
const MODULES: [&str; 4] = ["irqbypass", "ccp", "kvm", "kvm-amd"];

/// Where the tender is inside.
const TENDER: &str = "/fades-tender";

/// What the init script prints before the test program's exit code.
const VERDICT: &str = "emulated-machine-verdict:";

/// The package whose tests run inside.
const PACKAGE: &str = "fades-tender";

/// Tests of the tender that run inside, by a part of their names.
const FILTER: &str = "microvm";

/// Why the tests did not run, if they did not.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// They ran: lines of the test program, and whether it succeeded.
    Ran {
        /// What the test program printed.
        lines: Vec<String>,
        /// It ended with success, and ran at least one test.
        good: bool,
    },
    /// A program or the kernel is missing; which, and the remedy.
    Missing(String),
}

/// `cargo xtask emulated`: builds what is needed, runs the tests, shows all that
/// the machine printed.
pub(crate) fn command(tree: &Tree) -> Result<ExitCode, Fault> {
    let tests = test_binaries(tree)?;
    let tender = tree.binary("debug", "fades-tender");
    match run(tree, &tests, &tender, &tree.images())? {
        Outcome::Ran { lines, good } => {
            lines.iter().for_each(|l| println!("{l}"));
            Ok(ExitCode::from(u8::from(!good)))
        }
        Outcome::Missing(what) => Err(Fault::Output(what)),
    }
}

/// Boots the machine and runs the test programs `tests` in it.
///
/// Inside, `tender` is at [`TENDER`] and the images are at `/images`; variables
/// of the environment tell the test program so.
pub(crate) fn run(
    tree: &Tree,
    tests: &[PathBuf],
    tender: &Path,
    images: &Path,
) -> Result<Outcome, Fault> {
    for program in ["qemu-system-x86_64", "busybox", "cpio", "ldd"] {
        if !crate::system::exists(program) {
            return Ok(Outcome::Missing(format!("{program} is not installed")));
        }
    }
    let cache = tree.target.join("emulated");
    let Some(kernel) = Kernel::find(&cache)? else {
        let names = KERNEL_PACKAGES.join(", ");
        return Ok(Outcome::Missing(format!(
            "none of {names} can be downloaded with apt-get"
        )));
    };
    let initrd = file_system(&cache, &kernel, tests, tender, images)?;
    let lines = boot(&kernel.image, &initrd)?;
    let good = lines.iter().any(|l| l.trim() == format!("{VERDICT} 0"))
        && lines
            .iter()
            .any(|l| l.starts_with("test ") && l.ends_with("... ok"));
    Ok(Outcome::Ran { lines, good })
}

/// A kernel and its modules, unpacked.
struct Kernel {
    image: PathBuf,
    modules: Vec<PathBuf>,
}

impl Kernel {
    /// The kernel in `cache`, downloaded if it is not there yet.
    fn find(cache: &Path) -> Result<Option<Self>, Fault> {
        let root = cache.join("kernel");
        if let Some(kernel) = Self::in_folder(&root)? {
            return Ok(Some(kernel));
        }
        fs::create_dir_all(&root).map_err(|e| Fault::File(root.clone(), e))?;
        for meta in KERNEL_PACKAGES {
            for package in dependencies(meta) {
                fetch(&package, &root)?;
            }
            if let Some(kernel) = Self::in_folder(&root)? {
                return Ok(Some(kernel));
            }
        }
        Ok(None)
    }

    fn in_folder(root: &Path) -> Result<Option<Self>, Fault> {
        let files = files_below(root)?;
        let named = |name: &str| {
            files.iter().find(|f| {
                let file = f.file_name().unwrap_or_default().to_string_lossy();
                file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
            })
        };
        let image = files.iter().find(|f| {
            f.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz"))
        });
        let modules: Option<Vec<_>> = MODULES.iter().map(|m| named(m).cloned()).collect();
        Ok(image
            .cloned()
            .zip(modules)
            .map(|(image, modules)| Self { image, modules }))
    }
}

/// Packages with a kernel or its modules on which `meta` depends.
fn dependencies(meta: &str) -> Vec<String> {
    let Ok(text) = output(Command::new("apt-cache").args(["depends", "--recurse", meta])) else {
        return Vec::new();
    };
    let package = |l: &str| l.trim().strip_prefix("Depends: ").map(str::to_owned);
    let wanted = |p: &String| {
        (p.starts_with("linux-image-") || p.starts_with("linux-modules-"))
            && p.contains(|c: char| c.is_ascii_digit())
    };
    let found: BTreeSet<_> = text.lines().filter_map(package).filter(wanted).collect();
    found.into_iter().collect()
}

/// Downloads `package` and unpacks what is needed of it into `root`.
fn fetch(package: &str, root: &Path) -> Result<(), Fault> {
    println!("   downloading {package}");
    let mut download = Command::new("apt-get");
    download
        .args(["download", "-qq", package])
        .current_dir(root)
        .stderr(Stdio::null());
    if !crate::tree::succeeds(&mut download)? {
        return Ok(());
    }
    for deb in files_below(root)?
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "deb"))
    {
        let mut unpacker = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(deb)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Fault::Program("dpkg-deb".to_owned(), e))?;
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(root)
            .args(["-xf", "-", "--wildcards", "./boot/vmlinuz*"]);
        tar.args(MODULES.map(|m| format!("*/{m}.ko*")))
            .stderr(Stdio::null());
        if let Some(archive) = unpacker.stdout.take() {
            tar.stdin(archive);
        }
        // tar fails when one of the patterns matches nothing, as in a package
        // with modules only; what counts is what is there in the end.
        crate::tree::succeeds(&mut tar)?;
        unpacker
            .wait()
            .map_err(|e| Fault::Program("dpkg-deb".to_owned(), e))?;
        fs::remove_file(deb).map_err(|e| Fault::File(deb.clone(), e))?;
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(files);
    };
    for entry in entries {
        let path = entry.map_err(|e| Fault::File(folder.to_owned(), e))?.path();
        match path.symlink_metadata() {
            Ok(m) if m.is_dir() => files.extend(files_below(&path)?),
            Ok(m) if m.is_file() => files.push(path),
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

/// Makes the initial file system; the path of the archive.
fn file_system(
    cache: &Path,
    kernel: &Kernel,
    tests: &[PathBuf],
    tender: &Path,
    images: &Path,
) -> Result<PathBuf, Fault> {
    let root = cache.join("root");
    match fs::remove_dir_all(&root) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Fault::File(root, e)),
        _ => {}
    }
    let busybox = program("busybox");
    place(&root, &busybox, Path::new("/bin/busybox"))?;
    place(&root, tender, Path::new(TENDER))?;
    let mut needed = libraries(tender)?;
    let mut calls = String::new();
    for (number, test) in tests.iter().enumerate() {
        let inside = format!("/tests-{number}");
        place(&root, test, Path::new(&inside))?;
        needed.extend(libraries(test)?);
        let _ = writeln!(
            calls,
            "{inside} {FILTER} --test-threads=1 --show-output || failed=1"
        );
    }
    for library in &needed {
        place(&root, library, library)?;
    }
    for image in files_below(images)? {
        let name = image.strip_prefix(images).unwrap_or(&image);
        place(&root, &image, &Path::new("/images").join(name))?;
    }
    let mut script =
        String::from("#!/bin/busybox sh\n/bin/busybox mkdir -p /proc /sys /dev /tmp\n");
    script += "/bin/busybox --install -s /bin\nexport PATH=/bin\n";
    script += "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n";
    script += "mount -t tmpfs tmp /tmp; mkdir -p /dev/shm; mount -t tmpfs shm /dev/shm\n";
    script += "ip link set lo up\n";
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let plain = name.trim_end_matches(".xz").trim_end_matches(".zst");
        place(&root, module, &Path::new("/modules").join(&*name))?;
        if name.ends_with(".xz") {
            must(
                Command::new("xz")
                    .arg("-d")
                    .arg(root.join("modules").join(&*name)),
            )?;
        } else if name.ends_with(".zst") {
            must(
                Command::new("zstd")
                    .args(["-q", "-d", "--rm"])
                    .arg(root.join("modules").join(&*name)),
            )?;
        }
        // An error is told by the tests: then there is no /dev/kvm.
        let _ = writeln!(script, "insmod /modules/{plain}");
    }
    let _ = write!(
        script,
        "export FADES_TENDER={TENDER} FADES_IMAGES=/images FADES_EMULATED=kvm_amd\n\
         export RUST_BACKTRACE=0 TMPDIR=/tmp\n\
         failed=0\n{calls}echo \"{VERDICT} $failed\"\nsync\npoweroff -f\n"
    );
    let init = root.join("init");
    fs::write(&init, script).map_err(|e| Fault::File(init.clone(), e))?;
    must(Command::new("chmod").arg("755").arg(&init))?;
    pack(cache, &root)
}

/// Copies `from` to `to` below `root`.
fn place(root: &Path, from: &Path, to: &Path) -> Result<(), Fault> {
    let to = root.join(to.strip_prefix("/").unwrap_or(to));
    let folder = to.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(|e| Fault::File(folder.to_owned(), e))?;
    fs::copy(from, &to)
        .map(|_| ())
        .map_err(|e| Fault::File(from.to_owned(), e))
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|f| f.join(name))
        .find(|p| p.is_file())
        .unwrap_or_default()
}

/// Shared libraries of `binary`, the loader included; none when it is static.
fn libraries(binary: &Path) -> Result<BTreeSet<PathBuf>, Fault> {
    let found = Command::new("ldd")
        .arg(binary)
        .output()
        .map_err(|e| Fault::Program("ldd".to_owned(), e))?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let words = text.split_whitespace().filter(|w| w.starts_with('/'));
    Ok(words.map(PathBuf::from).filter(|p| p.is_file()).collect())
}

fn pack(cache: &Path, root: &Path) -> Result<PathBuf, Fault> {
    let archive = cache.join("initrd.cpio");
    let file = fs::File::create(&archive).map_err(|e| Fault::File(archive.clone(), e))?;
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .map_err(|e| Fault::Program("cpio".to_owned(), e))?;
    let names = output(Command::new("find").arg(".").current_dir(root))?;
    if let Some(mut input) = cpio.stdin.take() {
        input
            .write_all(names.as_bytes())
            .map_err(|e| Fault::Program("cpio".to_owned(), e))?;
    }
    let status = cpio
        .wait()
        .map_err(|e| Fault::Program("cpio".to_owned(), e))?;
    if status.success() {
        Ok(archive)
    } else {
        Err(Fault::Failed("cpio".to_owned()))
    }
}

/// Runs the machine until it powers itself off; what it printed after the
/// kernel handed over to the init script.
fn boot(kernel: &Path, initrd: &Path) -> Result<Vec<String>, Fault> {
    let lost = |e| Fault::Program("qemu-system-x86_64".to_owned(), e);
    let mut machine = Command::new("qemu-system-x86_64")
        .args([
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "EPYC,+svm",
            // Emulated processors that wait for each other burn the host's time:
            // with two, a busy host takes five times as long.
            "-smp",
            "1",
        ])
        .args(["-m", "1536", "-nographic", "-no-reboot", "-nic", "none"])
        .args(["-serial", "stdio", "-monitor", "none", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", "console=ttyS0 quiet rdinit=/init panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(lost)?;
    let (send, lines) = mpsc::channel();
    let serial = machine.stdout.take();
    std::thread::spawn(move || {
        for line in serial
            .into_iter()
            .flat_map(|s| BufReader::new(s).split(b'\n'))
        {
            let Ok(line) = line else { return };
            if send
                .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let printed = listen(&lines, Instant::now() + PATIENCE);
    end(&mut machine).map_err(lost)?;
    Ok(printed)
}

fn listen(lines: &mpsc::Receiver<String>, deadline: Instant) -> Vec<String> {
    let mut printed = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => printed.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return printed,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                printed.push(format!("the machine did not power off within {PATIENCE:?}"));
                return printed;
            }
        }
    }
}

fn end(machine: &mut Child) -> std::io::Result<()> {
    if machine.try_wait()?.is_none() {
        // It has closed its serial line or is past its time.
        machine.kill()?;
        machine.wait()?;
    }
    Ok(())
}

/// The tender's test programs, as cargo built them: that of the library and
/// that of its integration tests.
pub(crate) fn test_binaries(tree: &Tree) -> Result<Vec<PathBuf>, Fault> {
    let words = [
        "test",
        "--workspace",
        "--locked",
        "--no-run",
        "--message-format=json",
        "--quiet",
    ];
    let text = output(&mut tree.cargo(&words))?;
    let built: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect();
    ["lib", "test"]
        .into_iter()
        .map(|kind| {
            let of_tender = |m: &&serde_json::Value| {
                let package = m["package_id"].as_str().unwrap_or_default();
                m["reason"] == "compiler-artifact" && package.contains(PACKAGE)
            };
            let mut programs = built
                .iter()
                .filter(of_tender)
                .filter(|m| m["target"]["kind"][0] == kind && m["profile"]["test"] == true)
                .filter_map(|m| m["executable"].as_str().map(PathBuf::from));
            programs
                .next()
                .ok_or_else(|| Fault::Output(format!("cargo built no {kind} tests of {PACKAGE}")))
        })
        .collect()
}
