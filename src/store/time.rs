//! `Time`: `timestamptz` as a `jiff::Timestamp`, which sqlx does not know.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sqlx::Decode;
use sqlx::Encode;
use sqlx::Postgres;
use sqlx::Type;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArgumentBuffer;
use sqlx::postgres::PgTypeInfo;
use sqlx::postgres::PgValueRef;

/// 2000-01-01, where PostgreSQL counts from, in microseconds since 1970.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A wall-clock time on its way to or from a `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.as_microsecond() - EPOCH_US, buf)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        // Every query is a prepared one, so values come in binary.
        let since_2000: i64 = Decode::<Postgres>::decode(value)?;
        let micros = since_2000.checked_add(EPOCH_US).ok_or("timestamp out of range")?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }
}
