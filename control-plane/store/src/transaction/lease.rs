//! Leases with fencing tokens (Kleppmann, "How to do distributed locking", 2016): the token grows with each change of
//! the holder, and every fenced write compares it.

use async_trait::async_trait;
use springtide_core::Timestamp;

use super::{Transaction, Tx};
use crate::Result;
use crate::connection::values;
use crate::port::{Lease, LeaseRequest};

/// [`crate::Store::lease`].
pub(crate) struct Take(pub(crate) LeaseRequest);

#[async_trait]
impl Transaction for Take {
    type Output = Lease;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Lease> {
        let LeaseRequest { name, holder, duration, now } = &self.0;
        // Makes the row, so that there is one to lock.
        tx.execute(
            "INSERT INTO leases (name, holder, token, expires_at) VALUES ($1, '', 0, 0) ON CONFLICT (name) DO NOTHING",
            &values![name],
        )
        .await?;
        let sql = "SELECT holder, token, expires_at FROM leases WHERE name = $1 FOR UPDATE";
        let mut stored = Lease { holder: String::new(), token: 0, expires_at: Timestamp::default() };
        if let Some(mut row) = tx.query_one(sql, &values![name]).await? {
            stored = Lease { holder: row.take()?, token: row.take()?, expires_at: row.take()? };
        }
        let lease = after(stored.clone(), holder, *now, *duration);
        if lease != stored {
            tx.execute(
                "UPDATE leases SET holder = $2, token = $3, expires_at = $4 WHERE name = $1",
                &values![name, &lease.holder, lease.token, lease.expires_at],
            )
            .await?;
        }
        Ok(lease)
    }
}

/// The lease after a request.
fn after(stored: Lease, holder: &str, now: Timestamp, duration: std::time::Duration) -> Lease {
    let mine = stored.holder == holder;
    let free = stored.holder.is_empty() || stored.expires_at <= now;
    match (mine, duration.is_zero()) {
        (true, true) => Lease { holder: String::new(), expires_at: now, ..stored },
        (true, false) => Lease { expires_at: now + duration, ..stored },
        (false, false) if free => {
            Lease { holder: holder.to_owned(), token: stored.token + 1, expires_at: now + duration }
        }
        (false, _) => stored,
    }
}
