use super::*;

#[test]
fn what_is_copied_in_comes_out_again() {
    for memory in [
        GuestMemory::anonymous(8 * PAGE),
        GuestMemory::shared(8 * PAGE),
    ] {
        let memory = memory.unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        memory.copy_in(Offset(3), &bytes).unwrap();
        let mut out = vec![0; bytes.len()];
        memory.copy_out(Offset(3), &mut out).unwrap();
        assert_eq!(out, bytes);
        memory.put(Offset(8), &0x0123_4567_89ab_cdef_u64).unwrap();
        assert_eq!(
            memory.take::<u64>(Offset(8)).unwrap(),
            0x0123_4567_89ab_cdef
        );
    }
}

#[test]
fn nothing_outside_is_touched() {
    let memory = GuestMemory::anonymous(PAGE).unwrap();
    for (offset, length) in [
        (PAGE, 1),
        (PAGE - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, 0),
        (0, 4097),
    ] {
        let mut bytes = vec![0; length];
        assert!(
            memory.copy_out(Offset(offset), &mut bytes).is_err(),
            "{offset} {length}"
        );
        assert!(memory.copy_in(Offset(offset), &bytes).is_err());
        assert!(memory.resident(Offset(offset), length as u64).is_err());
    }
    memory.copy_in(Offset(PAGE), &[]).unwrap();
}

#[test]
fn only_touched_pages_are_resident() {
    for memory in [
        GuestMemory::anonymous(64 * PAGE),
        GuestMemory::shared(64 * PAGE),
    ] {
        let memory = memory.unwrap();
        memory.copy_in(Offset(5 * PAGE), &[1]).unwrap();
        memory.copy_in(Offset(7 * PAGE), &[1]).unwrap();
        assert_eq!(memory.resident(Offset(0), 64 * PAGE).unwrap(), 2 * PAGE);
    }
}

#[test]
fn a_window_is_aligned_and_takes_no_more_than_fits() {
    let window = Mapping::reserve(2 * LARGE_PAGE).unwrap();
    assert!(window.address().is_multiple_of(LARGE_PAGE));
    let file = tempfile::tempfile().unwrap();
    file.set_len(4 * LARGE_PAGE).unwrap();
    window.map_file(&file, LARGE_PAGE).unwrap();
    window.clear(LARGE_PAGE).unwrap();
    assert!(window.map_file(&file, 3 * LARGE_PAGE).is_err());
    assert!(window.clear(3 * LARGE_PAGE).is_err());
}
