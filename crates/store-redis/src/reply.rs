//! Answers as Redis gives them.

use std::time::Duration;

use penstock_admission::Need;
use penstock_admission::ledger::{GatewayId, Sums};
use penstock_admission::shared::{Place, Present, Reply, Seen, Share};
use penstock_domain::{Code, Error};
use redis::{FromRedisValue, Value};

use crate::{arguments, place};

fn strange() -> Error {
    Error::new(Code::StoreUnavailable, "Redis answers what none of our scripts says")
}

fn read<T: FromRedisValue>(value: Option<&Value>) -> Result<T, Error> {
    value.and_then(|value| T::from_redis_value_ref(value).ok()).ok_or_else(strange)
}

fn number(value: Option<&Value>) -> Result<u64, Error> {
    read::<i64>(value).map(|number| u64::try_from(number).unwrap_or(0))
}

pub(crate) fn reserved(shares: &[Share], values: &[Value]) -> Result<Reply, Error> {
    let (first, rest) = values.split_first().ok_or_else(strange)?;
    let seen = || {
        let seen = accounts(shares, rest)?;
        Ok::<_, Error>(seen.into_iter().map(Option::unwrap_or_default).collect())
    };
    match read::<i64>(Some(first))? {
        0 => seen().map(Reply::Refused),
        1 => seen().map(Reply::Held),
        2 => rest.iter().map(|value| read(Some(value))).collect::<Result<_, _>>().map(Reply::Unknown),
        3 => Ok(Reply::Stranger),
        _ => Err(strange()),
    }
}

pub(crate) fn looked(shares: &[Share], values: &[Value]) -> Result<Vec<Option<Seen>>, Error> {
    accounts(shares, values.get(1..).unwrap_or_default())
}

fn accounts(shares: &[Share], values: &[Value]) -> Result<Vec<Option<Seen>>, Error> {
    let mut values = values.iter();
    shares.iter().map(|share| one(share, &mut values)).collect()
}

fn one<'a>(share: &Share, values: &mut impl Iterator<Item = &'a Value>) -> Result<Option<Seen>, Error> {
    let first = read::<i64>(values.next())?;
    let Ok(in_flight) = u32::try_from(first) else { return Ok(None) };
    let mut next = || number(values.next());
    let held = Need { input: next()?, output: next()?, micros: next()? };
    let spent = Sums { day: next()?, month: next()?, lifetime: next()? };
    let rates = share.allowance.limits.rates().map(|(_, span, limit)| {
        let (step, _) = arguments::ticks(span, limit);
        Ok(u128::from(next()?) * u128::from(step) * 1_000_000)
    });
    let rates = rates.collect::<Result<_, Error>>()?;
    Ok(Some(Seen { in_flight, held, spent, rates }))
}

pub(crate) fn numbers(values: &[Value]) -> Result<Vec<u64>, Error> {
    let numbers: Vec<i64> = values.iter().map(|value| read(Some(value))).collect::<Result<_, _>>()?;
    if numbers.first() == Some(&-1) {
        return Err(Error::new(Code::Conflict, "Redis does not know this gateway any more"));
    }
    Ok(numbers.into_iter().map(|number| u64::try_from(number).unwrap_or(0)).collect())
}

pub(crate) fn present(values: &[Value]) -> Result<(String, Present), Error> {
    let mut values = values.iter();
    let epoch: String = read(values.next())?;
    let age = Duration::from_millis(number(values.next())?);
    let known = number(values.next())? == 1;
    let count = number(values.next())?;
    let mut gateways = Vec::new();
    for _ in 0..count {
        let id: String = read(values.next())?;
        gateways.push((GatewayId::new(&id), number(values.next())? == 1));
    }
    let numbers = values.map(|value| read::<u64>(Some(value))).collect::<Result<_, _>>()?;
    Ok((epoch, Present { known, age, gateways, numbers }))
}

pub(crate) fn places(values: &[Value]) -> Result<Vec<Place>, Error> {
    values.iter().map(|value| place(&read::<String>(Some(value))?).ok_or_else(strange)).collect()
}
