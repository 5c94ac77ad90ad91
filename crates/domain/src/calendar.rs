//! Days and months in UTC, as numbers that grow, and how they are written.
//!
//! What it promises: the Gregorian calendar from 1970 on, without leap seconds, as POSIX counts. What it refuses to know: the
//! clock, time zones, other spellings than RFC 3339's. Method: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Days from the first of March of the year 0 to the first of January 1970.
const SHIFT: u64 = 719_468;

/// The day of a moment, counted since 1970.
pub fn day(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
}

/// The month of a moment, counted since the year 0.
pub fn month(wall: SystemTime) -> u64 {
    let (year, month, _) = civil(day(wall));
    year * 12 + month - 1
}

/// When a day of [`day`] begins.
pub fn day_begins(day: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(day.saturating_mul(DAY))
}

/// When a month of [`month`] begins.
pub fn month_begins(month: u64) -> SystemTime {
    day_begins(days(month / 12, month % 12 + 1, 1))
}

/// `2026-12-01`.
pub fn date(wall: SystemTime) -> String {
    let (year, month, day) = civil(day(wall));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-23T17:00:01Z`, rounded up to a second.
pub fn stamp(wall: SystemTime) -> String {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs() + u64::from(since.subsec_nanos() > 0))
}

/// Seconds since 1970 as RFC 3339 writes them in UTC: `2026-11-23T17:00:01Z`.
pub fn rfc3339(seconds: u64) -> String {
    let ((year, month, day), second) = (civil(seconds / DAY), seconds % DAY);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the month of a day counted since 1970 (`civil_from_days`).
pub fn civil(day: u64) -> (u64, u64, u64) {
    let days = day + SHIFT;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, day)
}

/// A day counted since 1970, by year, month (1 to 12) and day of the month (from 1), for years from 1970 on
/// (`days_from_civil`).
pub fn days(year: u64, month: u64, day: u64) -> u64 {
    // March is the first month, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).saturating_sub(SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day_and_days_at_midnight() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        // 2026-11-23T17:00:00Z, 2024-02-29T23:59:59Z and 2024-12-31T00:00:00Z.
        for (seconds, today, next) in [
            (1_795_453_200, "2026-11-23", "2026-12-01"),
            (1_709_251_199, "2024-02-29", "2024-03-01"),
            (1_735_603_200, "2024-12-31", "2025-01-01"),
        ] {
            assert_eq!(date(at(seconds)), today);
            assert_eq!(date(month_begins(month(at(seconds)) + 1)), next);
            assert_eq!(date(day_begins(day(at(seconds)))), today);
        }
        for month in 1970 * 12..2400 * 12 {
            assert_eq!(super::month(month_begins(month)), month);
        }
    }
    #[test]
    fn days_and_dates_are_each_others_inverse_for_four_centuries() {
        let mut before = (1969, 12, 31);
        for day in 0..146_097 {
            let date = civil(day);
            assert!(date > before, "{before:?} is before {date:?}");
            assert_eq!(days(date.0, date.1, date.2), day);
            before = date;
        }
        assert_eq!(before, (2369, 12, 31));
    }

    #[test]
    fn seconds_are_written_as_rfc_3339_and_rounded_up() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
        assert_eq!(stamp(UNIX_EPOCH + Duration::from_millis(1_709_251_199_001)), "2024-03-01T00:00:00Z");
        // Whoever hands in nonsense reads nonsense, and nothing breaks.
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }
}
