//! `Decimal`: a number in decimal digits, without the machinery of formatting, which costs ten times as much.

/// Digits of the greatest number of 64 bits.
const DIGITS_MAX: usize = 20;

/// The decimal digits of a number. Each message and each description of a session has some.
pub(crate) struct Decimal {
    digits: [u8; DIGITS_MAX],
    /// Where the first one stands.
    from: usize,
}

impl Decimal {
    /// The digits of `number`, with none before them that could be left out.
    pub(crate) fn of(mut number: u64) -> Self {
        let mut digits = [b'0'; DIGITS_MAX];
        let mut from = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        Self { digits, from }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_formatted() {
        for number in [0, 1, 9, 10, 99, 100, 8_000, 65_535, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
