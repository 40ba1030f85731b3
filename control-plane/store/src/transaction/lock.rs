//! The store as the guard of exclusive keys: locks with an owner, a lease and a fencing token that never goes back.

use async_trait::async_trait;

use super::{Transaction, Tx};
use crate::Result;
use crate::connection::set;
use crate::port::{LockRequest, LockWish};

/// [`crate::Store::lock`].
pub(crate) struct Lock(pub(crate) LockRequest);

/// Placeholders: key, owner, now, until, the least token.
const TAKE: &str = "INSERT INTO locks (name, counter, owner, lease_until) VALUES ($1, $5, $2, $4) \
    ON CONFLICT (name) DO UPDATE SET \
    counter = CASE WHEN locks.counter >= excluded.counter THEN locks.counter + 1 ELSE excluded.counter END, \
    owner = excluded.owner, lease_until = excluded.lease_until \
    WHERE locks.owner IS NULL OR locks.owner = excluded.owner OR locks.lease_until <= $3 RETURNING counter";
/// A lease that ran out and that nobody has taken goes on.
const RENEW: &str = "UPDATE locks SET lease_until = $3 WHERE name = $1 AND owner = $2 RETURNING counter";
const LET_GO: &str =
    "UPDATE locks SET owner = NULL, lease_until = NULL WHERE name = $1 AND owner = $2 RETURNING counter";

#[async_trait]
impl Transaction for Lock {
    type Output = Vec<Option<u64>>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<Option<u64>>> {
        let LockRequest { wish, claims, lease, now } = &self.0;
        let until = *now + *lease;
        let sql = match wish {
            LockWish::Take => TAKE,
            LockWish::Renew => RENEW,
            LockWish::LetGo => LET_GO,
        };
        // Rows are locked in the order of their keys; the answers come in the order of the questions.
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by_key(|at| &claims[*at].key);
        let sets: Vec<_> = order
            .iter()
            .map(|at| {
                let claim = &claims[*at];
                match wish {
                    LockWish::Take => set![&claim.key, &claim.owner, *now, until, claim.token + 1],
                    LockWish::Renew => set![&claim.key, &claim.owner, until],
                    LockWish::LetGo => set![&claim.key, &claim.owner],
                }
            })
            .collect();
        let mut answers = vec![None; claims.len()];
        for (at, rows) in order.into_iter().zip(tx.query_each(sql, &sets).await?) {
            answers[at] = rows.into_iter().next().map(|mut row| row.take()).transpose()?;
        }
        Ok(answers)
    }
}
