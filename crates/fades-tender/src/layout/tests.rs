use super::*;
use crate::image::tests::sample;

fn plan(limits: &Limits) -> Result<Layout, LayoutError> {
    Layout::plan(&Image::parse(&sample()).unwrap(), limits, Size(64 << 10))
}

#[test]
fn regions_are_far_apart_and_disjoint_on_both_sides() {
    for memory in [1 << 20, 16 << 20, Limits::MAX.memory.0] {
        let limits = Limits {
            memory: Size(memory),
            ..Limits::default()
        };
        let layout = plan(&limits).unwrap();
        for pair in layout.spans.windows(2) {
            let gap = pair[1].start.0 - pair[0].end().0;
            let both_image = [pair[0].part, pair[1].part]
                .iter()
                .all(|p| matches!(p, Part::Text | Part::Constants | Part::Data));
            assert!(both_image || gap >= 1 << 20, "{pair:?}");
        }
        let mut offsets: Vec<_> = layout
            .spans
            .iter()
            .map(|s| (s.offset.0, s.length))
            .collect();
        let tables = tables::count(layout.bulk) * PAGE;
        offsets.push((layout.zones().tables().0, tables));
        offsets.sort_unstable();
        for pair in offsets.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let heap = layout.span(Part::Heap);
        assert!(heap.offset.0 - layout.zones().heap() < HEAP_SMALL);
        assert!(heap.end().0.is_multiple_of(LARGE_PAGE));
    }
}

#[test]
fn nothing_that_can_be_written_shares_the_read_only_part() {
    let layout = plan(&Limits::default()).unwrap();
    for span in &layout.spans {
        let writable = span.offset.0 >= layout.zones().writable();
        assert_eq!(writable, span.access == Access::Write, "{span:?}");
    }
}

#[test]
fn the_memory_limit_binds_data_stack_and_heap_together() {
    let limits = Limits::default();
    let layout = plan(&limits).unwrap();
    let sum: u64 = layout
        .spans
        .iter()
        .filter(|s| matches!(s.part, Part::Data | Part::Stack | Part::Heap))
        .map(|s| s.length)
        .sum();
    assert_eq!(sum, limits.memory.0);
}

#[test]
fn a_heap_is_small_pages_first_and_then_large_ones() {
    for memory in [
        1 << 20,
        2 << 20,
        5 << 20,
        16 << 20,
        (16 << 20) + 0x7_3000,
        64 << 20,
    ] {
        let limits = Limits {
            memory: Size(memory),
            ..Limits::default()
        };
        let heap = plan(&limits).unwrap().span(Part::Heap);
        let small = (HEAP.0 + HEAP_SMALL).saturating_sub(heap.start.0);
        assert!(small >= SMALL_MIN.min(heap.length), "{memory}: {small}");
        assert!(small < LARGE_PAGE + SMALL_MIN, "{memory}: {small}");
        assert!((heap.length - small).is_multiple_of(LARGE_PAGE), "{memory}");
    }
    let long = Limits {
        memory: Size(256 << 20),
        ..Limits::default()
    };
    let heap = plan(&long).unwrap().span(Part::Heap);
    assert_eq!(heap.start.0, HEAP.0 + HEAP_SMALL - SMALL_MIN);
    assert!(heap.length < long.memory.0 && heap.length > long.memory.0 - 2 * LARGE_PAGE);
}

#[test]
fn limits_that_cannot_work_are_refused_with_what_is_needed() {
    let with = |memory| Limits {
        memory: Size(memory),
        ..Limits::default()
    };
    let needed = 3 * PAGE + 0x1_0000 + HEAP_MIN;
    plan(&with(needed)).unwrap();
    for too_small in [0, PAGE, needed - 1] {
        let error = plan(&with(too_small)).unwrap_err();
        assert!(
            error.to_string().contains(&Size(needed).to_string()),
            "{error}"
        );
    }
    let error = plan(&with(Limits::MAX.memory.0 + 1)).unwrap_err();
    assert!(matches!(
        error,
        LayoutError::TooLarge {
            field: "memory",
            ..
        }
    ));
    let no_output = Limits {
        output: Size(0),
        ..Limits::default()
    };
    assert_eq!(plan(&no_output).unwrap_err(), LayoutError::Nothing);
    let mut image = Image::parse(&sample()).unwrap();
    image.about.memory_min = 32 << 20;
    let error = Layout::plan(&image, &Limits::default(), Size(PAGE)).unwrap_err();
    assert!(error.to_string().contains("32MiB"), "{error}");
}

#[test]
fn what_does_not_fit_common_zones_gets_large_ones() {
    let image = Image::parse(&sample()).unwrap();
    assert!(!plan(&Limits::default()).unwrap().bulk);
    let output = Limits {
        output: Limits::MAX.output,
        ..Limits::default()
    };
    assert!(plan(&output).unwrap().bulk);
    let context = Layout::plan(&image, &Limits::default(), Size(CONTEXT_MAX)).unwrap();
    assert!(context.bulk);
    let too_long = Layout::plan(&image, &Limits::default(), Size(CONTEXT_MAX + 1));
    assert_eq!(too_long, Err(LayoutError::Context(CONTEXT_MAX + 1)));
    let mut hungry = image.clone();
    hungry.about.stack = crate::image::STACK_MAX;
    let limits = Limits {
        memory: Size(1 << 30),
        ..output
    };
    let hungry = Layout::plan(&hungry, &limits, Size(CONTEXT_MAX)).unwrap();
    let work = hungry.span(Part::Output);
    assert!(hungry.bulk && work.offset.0 + work.length <= hungry.zones().heap());
    let heap = hungry.span(Part::Heap).length;
    let most = heap + HEAP_SMALL;
    assert!((heap..most).contains(&hungry.needs().heap.0));
}

#[test]
fn only_spans_inside_one_region_have_a_place_on_the_hosts_side() {
    let layout = plan(&Limits::default()).unwrap();
    let heap = layout.span(Part::Heap);
    assert_eq!(layout.offset_of(heap.start, heap.length), Some(heap.offset));
    let inside = GuestAddr(heap.start.0 + 5);
    assert_eq!(layout.offset_of(inside, 7), Some(Offset(heap.offset.0 + 5)));
    for (address, length) in [
        (heap.start, heap.length + 1),
        (heap.start, u64::MAX),
        (heap.end(), 1),
        (GuestAddr(heap.start.0 - 1), 2),
        (GuestAddr(0), 1),
        (GuestAddr(u64::MAX), 2),
        (INPUT, 1),
        (MONITOR, 1),
        (MONITOR_STACK, 1),
        (DOORBELL, 1),
    ] {
        assert_eq!(
            layout.offset_of(address, length),
            None,
            "{address} {length}"
        );
    }
}

#[test]
fn addresses_are_named_as_a_person_would() {
    let layout = plan(&Limits::default()).unwrap();
    let stack = layout.span(Part::Stack);
    let output = layout.span(Part::Output);
    for (address, words) in [
        (0, "the null page"),
        (8, "the null page"),
        (0x40_1000, "text (read-only)"),
        (0x40_0000, "constants (read-only)"),
        (stack.start.0 - 8, "below the stack"),
        (stack.start.0 - (20 << 20), "below the stack"),
        (stack.start.0, "the stack (not executable)"),
        (stack.end().0, "past the end of the stack"),
        (output.end().0, "past the end of the output window"),
        (INPUT.0, "the input (read-only)"),
        (INPUT.0 + LARGE_PAGE, "past the end of the input batch"),
        (DOORBELL.0, "the doorbell"),
        (1 << 62, "not an address"),
        (0x7fff_ffff_0000, "outside of every region"),
        (BOOT.0, "the boot info (read-only)"),
        (BOOT.0 - 8, "before the start of the boot info"),
    ] {
        assert_eq!(
            layout.place(GuestAddr(address), LARGE_PAGE),
            words,
            "{address:#x}"
        );
    }
    assert_eq!(
        layout.place(INPUT, 0),
        "the input window, in which no batch lies"
    );
}
