//! Fencing: a write of the leader counts only as long as it leads.

use super::Tx;
use crate::connection::text;
use crate::port::Fence;
use crate::{Error, Result};

impl Tx<'_> {
    /// Whether the lease still has this token. The lease's row stays locked until the commit, so that nobody takes it
    /// over between check and commit.
    pub(super) async fn holds(&mut self, fence: &Fence) -> Result<bool> {
        let found = self
            .query_one("SELECT token FROM leases WHERE name = $1 FOR UPDATE", &[text(&fence.name)])
            .await?;
        match found {
            Some(mut row) => Ok(row.take::<u64>()? == fence.token),
            None => Ok(false),
        }
    }

    /// An error unless the lease still has this token.
    pub(super) async fn fence(&mut self, fence: &Fence) -> Result<()> {
        if self.holds(fence).await? {
            Ok(())
        } else {
            Err(Error::Fenced { name: fence.name.clone(), token: fence.token })
        }
    }
}
