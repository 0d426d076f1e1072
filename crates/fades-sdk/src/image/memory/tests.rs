use super::*;

/// Lengths around every boundary of the code.
const LENGTHS: [usize; 22] = [
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 100, 255, 1000,
];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn copies_are_exact_and_touch_nothing_else() {
    for n in LENGTHS {
        let source = pattern(n);
        let mut to = vec![0xee; n + 2];
        // SAFETY: both ranges have `n` bytes.
        unsafe { memcpy(to[1..].as_mut_ptr(), source.as_ptr(), n) };
        assert_eq!((to[0], to[n + 1]), (0xee, 0xee));
        assert_eq!(&to[1..=n], &source[..]);
    }
}

#[test]
fn overlapping_moves_are_exact_in_both_directions() {
    for n in LENGTHS {
        for shift in [0, 1, 7, 16, 17, 40] {
            for (from, to) in [(0, shift), (shift, 0)] {
                let before = pattern(n + shift);
                let mut moved = before.clone();
                let start = moved.as_mut_ptr();
                let (source, target) = (start.wrapping_add(from), start.wrapping_add(to));
                // SAFETY: both ranges lie within `n + shift` bytes.
                unsafe { memmove(target, source, n) };
                let mut expected = before;
                expected.copy_within(from..from + n, to);
                assert_eq!(moved, expected, "{n} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn filling_uses_the_lowest_byte() {
    for n in LENGTHS {
        let mut to = vec![0; n + 2];
        // SAFETY: the range has `n` bytes.
        unsafe { memset(to[1..].as_mut_ptr(), 0x1ab, n) };
        assert!(to[1..=n].iter().all(|&b| b == 0xab));
        assert_eq!((to[0], to[n + 1]), (0, 0));
    }
}

#[test]
fn comparison_orders_by_the_first_difference() {
    for n in LENGTHS {
        let a = pattern(n);
        // SAFETY: both ranges have `n` bytes.
        let compare = |b: &[u8]| unsafe { memcmp(a.as_ptr(), b.as_ptr(), n) };
        assert_eq!(compare(&a), 0);
        for at in 0..n {
            let mut b = a.clone();
            b[at] = b[at].wrapping_add(0x7f);
            assert_eq!(
                compare(&b).signum(),
                a[at].cmp(&b[at]) as i32,
                "{at} of {n}"
            );
            // SAFETY: both ranges have `n` bytes.
            assert_ne!(unsafe { bcmp(a.as_ptr(), b.as_ptr(), n) }, 0);
        }
    }
}
