//! What a template is made of, and what is none.

use fades_task::limits::Limits;

use super::*;
use crate::image::tests::sample;

fn request(isolation: Isolation, output: u64) -> TemplateRequest {
    TemplateRequest {
        isolation,
        limits: Limits {
            output: fades_task::quantity::Size(output),
            ..Limits::default()
        },
        context: fades_task::quantity::Size(64 << 10),
    }
}

fn template(isolation: Isolation, output: u64) -> Template {
    let bytes = sample();
    let image = Image::parse(&bytes).unwrap();
    let symbols = b"401000 10 _start\n";
    of_image(&image, &bytes, symbols, &request(isolation, output)).unwrap()
}

#[test]
fn a_template_says_of_itself_what_its_maker_knew() {
    for (isolation, output) in [
        (Isolation::Microvm, 64 << 10),
        (Isolation::Process, 64 << 10),
        (Isolation::Microvm, Limits::MAX.output.0),
    ] {
        let made = template(isolation, output);
        let opened = Template::open(made.file.try_clone().unwrap().into()).unwrap();
        assert_eq!(opened.sheet, made.sheet);
        assert_eq!(opened.symbols().name(0x40_1002).unwrap(), "_start+0x2");
    }
}

#[test]
fn nobody_can_change_a_template() {
    let made = template(Isolation::Microvm, 64 << 10);
    assert!(made.file.write_all_at(b"x", 0).is_err());
    assert!(made.file.set_len(0).is_err());
    let mapped = GuestMemory::of_file(&made, 0..4096);
    assert!(mapped.is_err(), "it can be mapped for writing");
}

#[test]
fn what_is_no_template_is_refused() {
    let file = |seals: SealFlags, bytes: &[u8]| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("none", flags).unwrap());
        file.write_all_at(bytes, 0).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        OwnedFd::from(file)
    };
    let refused = |file| Template::open(file).unwrap_err().to_string();
    let unsealed = SEALS.difference(SealFlags::SHRINK);
    assert!(refused(file(unsealed, b"")).contains("not sealed"));
    assert!(refused(file(SEALS, b"short")).contains("too short"));
    let mut long = vec![0; (1 << 20) + (512 << 10)];
    long.extend(u64::MAX.to_le_bytes());
    long.extend(0_u64.to_le_bytes());
    assert!(refused(file(SEALS, &long)).contains("tail is too long"));
    let at = long.len() - LENGTHS;
    long[at..at + 8].copy_from_slice(&2_u64.to_le_bytes());
    long.extend(b"{}");
    assert!(refused(file(SEALS, &long)).contains("sheet"));
}
