//! Days and months in UTC, as numbers that grow.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// The day of a moment, counted since 1970.
pub(crate) fn day(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY
}

/// The month of a moment, counted since the year 0.
pub(crate) fn month(wall: SystemTime) -> u64 {
    let (year, month, _) = civil(day(wall));
    year * 12 + month - 1
}

/// When a day begins.
pub(crate) fn day_begins(day: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(day.saturating_mul(DAY))
}

/// When a month begins.
pub(crate) fn month_begins(month: u64) -> SystemTime {
    day_begins(days(month / 12, month % 12 + 1))
}

/// `2026-12-01`.
pub(crate) fn date(wall: SystemTime) -> String {
    let (year, month, day) = civil(day(wall));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-23T17:00:01Z`, rounded up.
pub(crate) fn stamp(wall: SystemTime) -> String {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let (day, second) = (UNIX_EPOCH + Duration::from_secs(seconds), seconds % DAY);
    format!("{}T{:02}:{:02}:{:02}Z", date(day), second / 3_600, second / 60 % 60, second % 60)
}

/// Year, month and day of the month of a day since 1970; Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`.
fn civil(day: u64) -> (u64, u64, u64) {
    let days = day + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, day)
}

/// The first day of a month, counted since 1970; the same, `days_from_civil`, for years from 1970 on.
fn days(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).saturating_sub(719_468)
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
}
