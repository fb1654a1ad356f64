//! Instants as ISO 8601 text in UTC: `2024-01-01T00:00:00Z`, `2024-01-01T00:00:00.123Z`.

use crate::error::InvalidText;

/// The first and the last instant whose year has four digits.
pub(crate) const RANGE_MS: (i64, i64) = (-62_135_596_800_000, 253_402_300_799_999);

static PAIRS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        #[allow(clippy::cast_possible_truncation, reason = "digits")]
        let pair = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
        table[i] = pair;
        i += 1;
    }
    table
};

#[inline]
fn pair(number: u32) -> [u8; 2] {
    PAIRS[number as usize % 100]
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last; Neri and Schneider, "Euclidean
/// affine functions and their application to calendar algorithms" (2022).
#[inline]
fn date(day: u32) -> (u32, u32, u32) {
    // `day` is counted from 0000-03-01.
    let n = 4 * day + 3;
    let century = n / 146_097;
    let n = n % 146_097 / 4 * 4 + 3;
    let scaled = 2_939_745 * u64::from(n);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a year of a century, a day of a year"
    )]
    let (year_of_century, day_of_year) = ((scaled >> 32) as u32, (scaled as u32) / 2_939_745 / 4);
    let n = 2141 * day_of_year + 197_913;
    let (month, day_of_month) = (n >> 16, (n & 0xffff) / 2141);
    let january_or_february = u32::from(day_of_year >= 306);
    (
        100 * century + year_of_century + january_or_february,
        month - 12 * january_or_february,
        day_of_month + 1,
    )
}

const DAYS_TO_1970: i64 = 719_468;

/// Writes an instant in milliseconds since the Unix epoch as `2024-01-01T00:00:00.123Z`.
///
/// An instant beyond the years 1 to 9999 is written as the nearest one inside them.
#[inline]
pub fn write_iso8601_ms(ms: i64, out: &mut [u8; 24]) {
    let ms = ms.clamp(RANGE_MS.0, RANGE_MS.1);
    // From 0000-03-01 everything is positive, and division rounds as a calendar does.
    let since = (ms + DAYS_TO_1970 * 86_400_000).cast_unsigned();
    #[allow(clippy::cast_possible_truncation, reason = "below 1000")]
    let millis = (since % 1000) as u32;
    write_to_second(since / 1000, out);
    out[19] = b'.';
    let [_, hundreds] = pair(millis / 100);
    out[20] = hundreds;
    out[21..23].copy_from_slice(&pair(millis % 100));
    out[23] = b'Z';
}

/// Writes an instant in seconds since the Unix epoch as `2024-01-01T00:00:00Z`.
///
/// An instant beyond the years 1 to 9999 is written as the nearest one inside them.
#[inline]
pub fn write_iso8601(seconds: i64, out: &mut [u8; 20]) {
    let seconds = seconds.clamp(RANGE_MS.0 / 1000, RANGE_MS.1 / 1000);
    write_to_second((seconds + DAYS_TO_1970 * 86_400).cast_unsigned(), out);
    out[19] = b'Z';
}

/// Writes the first 19 characters of an instant in seconds since 0000-03-01.
#[inline]
fn write_to_second<const LEN: usize>(since: u64, out: &mut [u8; LEN]) {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "days below 2^22, seconds of a day below 2^17"
    )]
    let (day, of_day) = ((since / 86_400) as u32, (since % 86_400) as u32);
    let (year, month, day) = date(day);
    let (minutes, second) = (of_day / 60, of_day % 60);
    let (hour, minute) = (minutes / 60, minutes % 60);
    out[0..2].copy_from_slice(&pair(year / 100));
    out[2..4].copy_from_slice(&pair(year % 100));
    out[4] = b'-';
    out[5..7].copy_from_slice(&pair(month));
    out[7] = b'-';
    out[8..10].copy_from_slice(&pair(day));
    out[10] = b'T';
    out[11..13].copy_from_slice(&pair(hour));
    out[13] = b':';
    out[14..16].copy_from_slice(&pair(minute));
    out[16] = b':';
    out[17..19].copy_from_slice(&pair(second));
}

/// Milliseconds since the Unix epoch of the text that [`write_iso8601`] or [`write_iso8601_ms`] writes.
pub(crate) fn read_iso8601(text: &[u8]) -> Result<i64, InvalidText> {
    let shape: &[u8] = match text.len() {
        20 => b"dddd-dd-ddTdd:dd:ddZ",
        24 => b"dddd-dd-ddTdd:dd:dd.dddZ",
        len => {
            return Err(InvalidText::new(format!(
                "it is {len} characters long, not 20 (seconds) or 24 (milliseconds)"
            )));
        }
    };
    for (position, (&found, &expected)) in text.iter().zip(shape).enumerate() {
        let fits = if expected == b'd' {
            found.is_ascii_digit()
        } else {
            found == expected
        };
        if !fits {
            let wanted = if expected == b'd' {
                "a digit".to_owned()
            } else {
                format!("{:?}", char::from(expected))
            };
            return Err(InvalidText::at(
                position,
                format!("found {:?} in place of {wanted}", char::from(found)),
            ));
        }
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .fold(0_i64, |n, &c| 10 * n + i64::from(c - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let millis = if text.len() == 24 { number(20, 23) } else { 0 };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    for (position, what, value, from, to) in [
        (0, "year", year, 1, 9999),
        (5, "month", month, 1, 12),
        (8, "day", day, 1, days),
        (11, "hour", hour, 0, 23),
        (14, "minute", minute, 0, 59),
        (17, "second", second, 0, 59),
    ] {
        if !(from..=to).contains(&value) {
            return Err(InvalidText::at(
                position,
                format!("there is no {what} {value:02}"),
            ));
        }
    }
    // Years from March, as in `date`.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - DAYS_TO_1970;
    Ok((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ms: i64) -> String {
        let (mut to_second, mut out) = ([0; 20], [0; 24]);
        write_iso8601(ms.div_euclid(1000), &mut to_second);
        write_iso8601_ms(ms, &mut out);
        assert_eq!(to_second[..19], out[..19]);
        assert_eq!(to_second[19], b'Z');
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn known_instants_are_written() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_704_067_200_123), "2024-01-01T00:00:00.123Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(RANGE_MS.0), "0001-01-01T00:00:00.000Z");
        assert_eq!(text(RANGE_MS.1), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(i64::MIN), text(RANGE_MS.0));
        assert_eq!(text(i64::MAX), text(RANGE_MS.1));
    }

    #[test]
    fn every_day_of_ten_thousand_years_comes_back() {
        let mut previous = String::new();
        for day in RANGE_MS.0 / 86_400_000..=RANGE_MS.1 / 86_400_000 {
            let ms = day * 86_400_000 + 45_296_789;
            let written = text(ms);
            assert_eq!(read_iso8601(written.as_bytes()), Ok(ms));
            assert!(previous < written, "text sorts as time does");
            previous = written;
        }
    }

    #[test]
    fn what_is_no_instant_is_refused_by_position() {
        for (text, position) in [
            ("2024-13-01T00:00:00Z", Some(5)),
            ("2023-02-29T00:00:00Z", Some(8)),
            ("0000-01-01T00:00:00Z", Some(0)),
            ("2024-01-01T24:00:00Z", Some(11)),
            ("2024-01-01T00:00:60Z", Some(17)),
            ("2024-01-01 00:00:00Z", Some(10)),
            ("2024-01-01T00:00:00+", Some(19)),
            ("2024-01-01T00:00:00.12Z", None),
        ] {
            assert_eq!(
                read_iso8601(text.as_bytes()).unwrap_err().position,
                position,
                "{text}"
            );
        }
    }
}
