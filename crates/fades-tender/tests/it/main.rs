//! Real images in real tenders, on every isolation that this host has.
//!
//! Each test runs on the isolation that its name says, and asserts that the
//! tender recorded that isolation: a silent fallback would fail. Where a host
//! has no KVM, tests of microVMs say that they were skipped, and why.

mod bounds;
mod confinement;
mod contract;
mod equality;
mod faults;
mod hostile;
mod images;
mod limits;
mod loading;
mod probing;
mod shells;
mod tending;
mod vectors;

use fades_task::limits::Isolation;

/// Makes a test for each isolation of each function named.
macro_rules! on_every_isolation {
    ($($test:ident),+ $(,)?) => {
        mod microvm {
            $(#[test]
            fn $test() {
                if crate::has_kvm(stringify!($test)) {
                    super::$test(fades_task::limits::Isolation::Microvm);
                }
            })+
        }

        mod process {
            $(#[test]
            fn $test() {
                super::$test(fades_task::limits::Isolation::Process);
            })+
        }
    };
}
use on_every_isolation;

/// Whether this host has KVM; if not, says which test is skipped and why. With
/// KVM there is no excuse.
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn has_kvm(test: &str) -> bool {
    match std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => true,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: microvm {test}: no /dev/kvm");
            false
        }
        Err(e) => {
            println!("SKIPPED: microvm {test}: /dev/kvm cannot be used: {e}");
            false
        }
    }
}

/// Both, for a test that compares them; only those that this host has.
fn all_isolations(test: &str) -> Vec<Isolation> {
    let mut all = vec![Isolation::Process];
    all.extend(has_kvm(test).then_some(Isolation::Microvm));
    all
}
