//! How much work is inside at once, and who is turned away when that is too much.
//!
//! What it promises: no more requests of models are inside than [`max_in_flight`](crate::EdgeSettings::max_in_flight), from
//! their head to the last byte of their answer, and no more bytes of their bodies are held in memory than
//! [`max_in_flight_bytes`](crate::EdgeSettings::max_in_flight_bytes), for as long as anybody holds them. The less urgent leave
//! room for the more urgent: batch work may fill 70 % of either bound, standard work 90 %, interactive work all of it. Strangers
//! fill an eighth at most: beyond it everybody shows a key before anything of a body is read.
//!
//! What it refuses to know: probes, pages and administration. They are not counted, so that they answer however full it is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use penstock_domain::{Code, Credential, Error, Kind, Priority, Retry};
use penstock_flow::Flow;

use crate::{EdgeSettings, upload};

/// Bodies above this are read only for callers who have proved who they are.
const STRANGERS_BODY: u64 = 64 << 10;
/// The part of the bounds that may be filled by whoever has not shown a key yet: one in so many.
const STRANGERS: usize = 8;
/// How often the log says that requests are turned away.
const SAY: Duration = Duration::from_secs(10);

/// How many hundredths of a bound a class may fill.
const fn share(class: Priority) -> usize {
    match class {
        Priority::Batch => 70,
        Priority::Standard => 90,
        Priority::Interactive => 100,
    }
}

/// How long a class is told to stay away: the most urgent comes back first.
const fn wait(class: Priority) -> Duration {
    match class {
        Priority::Batch => Duration::from_secs(5),
        Priority::Standard => Duration::from_secs(2),
        Priority::Interactive => Duration::from_secs(1),
    }
}

/// Something that is counted, and how much of it there may be.
#[derive(Debug)]
struct Gauge {
    held: AtomicUsize,
    most: usize,
}

impl Gauge {
    fn new(most: usize) -> Self {
        Self { held: AtomicUsize::new(0), most }
    }

    /// Adds, and gives what is held now.
    fn add(&self, more: usize) -> usize {
        self.held.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn sub(&self, less: usize) {
        self.held.fetch_sub(less, Ordering::Relaxed);
    }

    /// Whether so little is held that nobody is asked who they are.
    fn is_roomy(&self, held: usize) -> bool {
        held <= self.most / STRANGERS
    }

    /// Whether a class may let it come to this much.
    fn allows(&self, held: usize, class: Priority) -> bool {
        held as u128 * 100 <= (self.most as u128) * share(class) as u128
    }
}

/// What is inside, counted.
#[derive(Debug)]
pub(crate) struct Intake {
    requests: Gauge,
    bytes: Gauge,
    /// Turned away since the log last said so, and when that was.
    shed: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Intake {
    pub(crate) fn new(settings: &EdgeSettings) -> Arc<Self> {
        Arc::new(Self {
            requests: Gauge::new(settings.max_in_flight.max(1)),
            bytes: Gauge::new(settings.max_in_flight_bytes.max(1)),
            shed: AtomicU64::new(0),
            said: Mutex::new(None),
        })
    }

    /// Lets a request in by its head, before anything of its body is read.
    ///
    /// # Errors
    /// `overloaded`; and why its asker is not known, where the body is too long to be read for a stranger.
    pub(crate) fn enter(
        self: &Arc<Self>,
        flow: &Flow,
        (headers, credential): (&HeaderMap, &Credential),
        (max_body, empty): (usize, bool),
    ) -> Result<Entry, Error> {
        let announced = if empty { Some(0) } else { upload::announced(headers) };
        let class = || match flow.urgency(credential) {
            // Whoever is known and may not ask is told so on the path.
            Err(error) if error.kind() != Kind::Unauthenticated => Ok(Priority::Batch),
            known => known,
        };
        // An unknown length counts as long. Nobody makes us hold megabytes before they have shown a key.
        let long = announced.is_none_or(|length| length > STRANGERS_BODY && length <= max_body as u64);
        // What is too large is refused for that, without being held.
        let length = announced.filter(|length| *length <= max_body as u64).unwrap_or(0);
        self.seat(usize::try_from(length).unwrap_or(usize::MAX), long, class)
    }

    fn seat(
        self: &Arc<Self>,
        length: usize,
        long: bool,
        class: impl FnOnce() -> Result<Priority, Error>,
    ) -> Result<Entry, Error> {
        let requests = self.requests.add(1);
        let mut entry = Entry { seat: Seat(Arc::clone(self)), class: None, charge: None };
        let bytes = self.bytes.held().saturating_add(length);
        if !long && self.requests.is_roomy(requests) && self.bytes.is_roomy(bytes) {
            entry.reserve(length);
            return Ok(entry);
        }
        let class = class()?;
        entry.class = Some(class);
        if !self.requests.allows(requests, class) {
            return Err(self.full(class, "requests in flight (server.max_in_flight)"));
        }
        // What many announce at once is counted before any of it comes: whoever is let in can send all of it.
        let bytes = entry.reserve(length);
        if !self.bytes.allows(bytes, class) {
            return Err(self.heavy(class));
        }
        Ok(entry)
    }

    fn heavy(&self, class: Priority) -> Error {
        self.full(class, "bytes of requests in memory (server.max_in_flight_bytes)")
    }

    fn full(&self, class: Priority, what: &str) -> Error {
        let shed = self.shed.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.duration_since(said) >= SAY) {
            *said = Some(now);
            self.shed.store(0, Ordering::Relaxed);
            tracing::warn!(shed, class = class.name(), "requests are turned away: as many {what} as may");
        }
        let say =
            format!("the gateway has as many {what} as {} work may take up: try again later", class.name());
        Error::new(Code::Overloaded, say).with_retry(Retry::After(wait(class)))
    }
}

/// A request's place, until the last byte of its answer has left.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Intake>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.requests.sub(1);
    }
}

/// A request on its way in.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) seat: Seat,
    /// Known where it had to be asked.
    class: Option<Priority>,
    /// What its body will take up, as far as that was announced.
    charge: Option<Charge>,
}

impl Entry {
    /// Counts what was announced, and gives what is held now.
    fn reserve(&mut self, length: usize) -> usize {
        // The number of seats bounds what is small.
        let bytes = if length > upload::COPY { length } else { 0 };
        let intake = Arc::clone(&self.seat.0);
        let held = intake.bytes.add(bytes);
        self.charge = (bytes > 0).then(|| Charge { intake, class: self.class, bytes, came: 0 });
        held
    }

    /// Begins to hold a body.
    pub(crate) fn charge(&mut self) -> Charge {
        let (intake, class) = (&self.seat.0, self.class);
        self.charge.take().unwrap_or_else(|| Charge { intake: Arc::clone(intake), class, bytes: 0, came: 0 })
    }

    /// The request says itself how urgent it is: never more than its asker may be.
    ///
    /// # Errors
    /// `overloaded`.
    pub(crate) fn asks(&self, own: Option<Priority>) -> Result<(), Error> {
        let Some(own) = own.filter(|own| self.class.is_none_or(|class| *own < class)) else { return Ok(()) };
        let Intake { requests, bytes, .. } = &*self.seat.0;
        if !requests.allows(requests.held(), own) {
            return Err(self.seat.0.full(own, "requests in flight (server.max_in_flight)"));
        }
        if !bytes.allows(bytes.held(), own) {
            return Err(self.seat.0.heavy(own));
        }
        Ok(())
    }
}

/// What a body takes up.
#[derive(Debug)]
pub(crate) struct Charge {
    intake: Arc<Intake>,
    class: Option<Priority>,
    /// Counted.
    bytes: usize,
    came: usize,
}

impl Charge {
    /// More of it has come.
    ///
    /// # Errors
    /// `overloaded`: it is too much now.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Error> {
        self.came += more;
        let Some(more) = self.came.checked_sub(self.bytes).filter(|more| *more > 0) else { return Ok(()) };
        self.bytes = self.came;
        let held = self.intake.bytes.add(more);
        let class = self.class.unwrap_or(Priority::Interactive);
        if self.intake.bytes.allows(held, class) { Ok(()) } else { Err(self.intake.heavy(class)) }
    }

    /// The body, which is counted until nobody holds it any more.
    pub(crate) fn of(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.intake.bytes.sub(self.bytes);
    }
}

struct Held {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(requests: usize, bytes: usize) -> Arc<Intake> {
        Intake::new(&EdgeSettings {
            max_in_flight: requests,
            max_in_flight_bytes: bytes,
            ..EdgeSettings::default()
        })
    }

    fn sit(intake: &Arc<Intake>, class: Priority) -> Option<Entry> {
        intake.seat(0, false, || Ok(class)).ok()
    }

    #[test]
    fn the_less_urgent_leave_room_for_the_more_urgent() {
        let intake = intake(10, 1000);
        let mut seats = Vec::new();
        for (class, up_to) in [(Priority::Batch, 7), (Priority::Standard, 9), (Priority::Interactive, 10)] {
            while let Some(seat) = sit(&intake, class) {
                seats.push(seat);
            }
            assert_eq!(seats.len(), up_to, "{class:?}");
        }
        assert!(Priority::ALL.iter().all(|class| sit(&intake, *class).is_none()), "full");
        seats.truncate(8);
        assert!(sit(&intake, Priority::Batch).is_none() && sit(&intake, Priority::Standard).is_some());
        drop(seats);
        assert_eq!(intake.requests.held(), 0, "who was refused holds nothing either");
    }

    #[test]
    fn nobody_is_asked_who_they_are_while_little_is_held() {
        let intake = intake(80, 800_000);
        let asked = || -> Result<Priority, Error> { panic!("asked") };
        let seats: Vec<_> = (0..10).map(|_| intake.seat(10_000, false, asked).unwrap()).collect();
        let stranger = || Err(Error::new(Code::MissingApiKey, "no key"));
        assert_eq!(
            intake.seat(0, false, stranger).unwrap_err().code(),
            Code::MissingApiKey,
            "more than an eighth"
        );
        assert_eq!(intake.seat(10_000, false, stranger).unwrap_err().code(), Code::MissingApiKey);
        drop(seats);
        assert_eq!(intake.seat(0, true, stranger).unwrap_err().code(), Code::MissingApiKey, "a long body");
    }

    #[test]
    fn bytes_count_until_the_last_who_holds_them_lets_go() {
        let intake = intake(10, 100_000);
        let mut seat = intake.seat(80_000, false, || Ok(Priority::Standard)).unwrap();
        let mut charge = seat.charge();
        charge.grow(80_000).unwrap();
        assert_eq!(intake.bytes.held(), 80_000, "what was announced is not counted again as it comes");
        let body = charge.of(Bytes::from(vec![7; 80_000]));
        let slice = body.slice(10..20);
        drop((body, seat));
        let refused = intake.seat(10_001, false, || Ok(Priority::Standard)).unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);
        assert!(refused.say().contains("server.max_in_flight_bytes"), "{}", refused.say());
        assert_eq!(slice[0], 7);
        drop(slice);
        assert_eq!(intake.bytes.held(), 0);
    }

    #[test]
    fn what_is_announced_is_counted_before_it_comes() {
        let intake = intake(10, 100_000);
        let seats: Vec<_> =
            (0..2).filter_map(|_| intake.seat(60_000, true, || Ok(Priority::Interactive)).ok()).collect();
        assert_eq!((seats.len(), intake.bytes.held()), (1, 60_000));
        drop(seats);
        assert_eq!(intake.bytes.held(), 0, "and given back by who never sends it");
        let small = intake.seat(upload::COPY, false, || Ok(Priority::Batch)).unwrap();
        assert_eq!((intake.bytes.held(), small.charge.is_none()), (0, true));
    }

    #[test]
    fn a_body_that_grows_too_large_for_its_class_is_refused_on_the_way() {
        let intake = intake(10, 1000);
        let mut seat = intake.seat(0, true, || Ok(Priority::Batch)).unwrap();
        let mut charge = seat.charge();
        charge.grow(700).unwrap();
        assert_eq!(charge.grow(1).unwrap_err().retry(), Retry::After(wait(Priority::Batch)));
        drop(charge);
        assert_eq!(intake.bytes.held(), 0);
    }

    #[test]
    fn a_request_may_ask_for_less_than_its_key_has_and_not_for_more() {
        let intake = intake(10, 1000);
        let _seats: Vec<_> = (0..8).map(|_| sit(&intake, Priority::Interactive).unwrap()).collect();
        let seat = sit(&intake, Priority::Standard).unwrap();
        assert_eq!(seat.asks(Some(Priority::Batch)).unwrap_err().code(), Code::Overloaded);
        for own in [None, Some(Priority::Standard), Some(Priority::Interactive)] {
            seat.asks(own).unwrap();
        }
    }

    #[test]
    fn the_most_urgent_is_told_to_come_back_first() {
        let waits = Priority::ALL.map(wait);
        assert!(waits.is_sorted() && waits[0] >= Duration::from_secs(1), "{waits:?}");
    }
}
