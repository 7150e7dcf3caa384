//! What an RSA key file leaves to its reader to work out.

/// `number` modulo `modulus`, both with the largest byte first; as long as `modulus`, which is not 0.
pub(super) fn remainder(number: &[u8], modulus: &[u8]) -> Vec<u8> {
    // A byte more, so that doubling always has room.
    let modulus: Vec<u8> = [&[0], modulus].concat();
    let mut rest = vec![0; modulus.len()];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        double(&mut rest, bit);
        if rest >= modulus {
            subtract(&mut rest, &modulus);
        }
    }
    rest.split_off(1)
}

/// `number` less one; it is not 0.
pub(super) fn less_one(number: &[u8]) -> Vec<u8> {
    let mut less = number.to_vec();
    let mut one = vec![0; less.len()];
    if let Some(last) = one.last_mut() {
        *last = 1;
    }
    subtract(&mut less, &one);
    less
}

fn double(number: &mut [u8], mut carry: u8) {
    for byte in number.iter_mut().rev() {
        let next = *byte >> 7;
        *byte = *byte << 1 | carry;
        carry = next;
    }
}

/// Both have one length, and what is taken away is not larger.
fn subtract(number: &mut [u8], other: &[u8]) {
    let mut borrowed = false;
    for (byte, less) in number.iter_mut().rev().zip(other.iter().rev()) {
        let (first, one) = byte.overflowing_sub(*less);
        let (second, two) = first.overflowing_sub(u8::from(borrowed));
        *byte = second;
        borrowed = one || two;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_the_machine() {
        let modulo = |number: u128, modulus: u64| {
            let rest = remainder(&number.to_be_bytes(), &modulus.to_be_bytes());
            u64::from_be_bytes(rest.try_into().expect("as long as the modulus"))
        };
        for number in [0, 1, 255, 1 << 64, u128::MAX, u128::MAX / 3, 0x1234_5678_9abc_def0_1122] {
            for modulus in [1, 2, 255, 256, 65_537, u64::MAX, u64::MAX / 7] {
                assert_eq!(u128::from(modulo(number, modulus)), number % u128::from(modulus));
            }
        }
    }

    #[test]
    fn one_less_borrows() {
        assert_eq!(less_one(&[1, 0, 0]), [0, 255, 255]);
        assert_eq!(less_one(&[1, 1]), [1, 0]);
    }
}
